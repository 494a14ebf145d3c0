"""Builds softmax.pyx beside itself, with Cython and setuptools: `python setup.py build_ext --inplace`."""

from Cython.Build import cythonize
from setuptools import setup

setup(name="softmax", ext_modules=cythonize("softmax.pyx"))

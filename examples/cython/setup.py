"""Builds softmax.pyx beside itself, with Cython and setuptools: `python setup.py build_ext --inplace`."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fusedstep

extension = Extension("softmax", ["softmax.pyx"], include_dirs=[fusedstep.get_include()])
setup(name="softmax", ext_modules=cythonize(extension))

# Cython code cimports from cython_api.pxd; there is nothing for Python in the module.

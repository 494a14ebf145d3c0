# Cython code cimports from cython_api.pxd; there is nothing for Python in the module.

__pyx_capi__: dict[str, object]
__test__: dict[str, object]

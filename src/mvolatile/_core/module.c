#include <Python.h>
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "mvolatile._core"};
PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&def); }

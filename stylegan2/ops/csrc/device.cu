// What the library was built for, for `python -m stylegan2.ops info` and for readable errors.
#include "core.h"

WPLUS_EXPORT int32_t wplus_version() { return 1; }

WPLUS_EXPORT int32_t wplus_on_device() {
#if defined(__CUDACC__)
    return 1;
#else
    return 0;
#endif
}

WPLUS_EXPORT int32_t wplus_halves() {
#if defined(WPLUS_HALVES)
    return 1;
#else
    return 0;
#endif
}

WPLUS_EXPORT const char* wplus_error(int32_t code) {
#if defined(__CUDACC__)
    return code < 0 ? "no kernel for this call" : cudaGetErrorString(static_cast<cudaError_t>(code));
#else
    return code == 0 ? "no error" : "no kernel for this call";
#endif
}

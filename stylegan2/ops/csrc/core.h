// What all kernels here share: number types, division by a fixed number, activations, and the launch.
//
// Sources compile twice.  nvcc makes kernels of them.  An ordinary C++ compiler makes a library with the same entry
// points that runs on the CPU, block after block and thread after thread: slow, but every index is computed by the
// same lines, so the tests find mistakes without a GPU, and under an address sanitizer.
//
// A kernel is a struct with `Arguments` (plain data, passed by value), THREADS a block, BLOCKS that a multiprocessor has
// to hold at least (0: as the compiler likes), PHASES, and
//     template <int PHASE> static void run(const Arguments&, int64_t block, int thread, void* shared);
// All threads of a block finish one phase before the next begins.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define WPLUS_INLINE __host__ __device__ __forceinline__
#define WPLUS_UNROLL _Pragma("unroll")
#else
#define WPLUS_INLINE inline
#define WPLUS_UNROLL
#endif

#if defined(__CUDACC__) || __has_include(<cuda_fp16.h>)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define WPLUS_HALVES 1
#endif

#if defined(_WIN32)
#define WPLUS_EXPORT extern "C" __declspec(dllexport)
#else
#define WPLUS_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace wplus {

// Codes of the element types, and what a launcher answers to a call that it has no kernel for (else: cudaError_t).
enum Type : int32_t { FLOAT32 = 0, FLOAT64 = 1, FLOAT16 = 2, BFLOAT16 = 3 };
constexpr int32_t NO_KERNEL = -1;

// What is computed with: 16-bit numbers are read into float and rounded once, when they are written.
template <class T> struct Wide { using type = float; };
template <> struct Wide<double> { using type = double; };

WPLUS_INLINE float widen(float x) { return x; }
WPLUS_INLINE double widen(double x) { return x; }
template <class T, class A> WPLUS_INLINE T narrow(A x) { return static_cast<T>(x); }
#if defined(WPLUS_HALVES)
WPLUS_INLINE float widen(__half x) { return __half2float(x); }
WPLUS_INLINE float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
template <> WPLUS_INLINE __half narrow<__half, float>(float x) { return __float2half_rn(x); }
template <> WPLUS_INLINE __nv_bfloat16 narrow<__nv_bfloat16, float>(float x) { return __float2bfloat16_rn(x); }
#endif

// N numbers that are read or written at once (their address is a multiple of their size).
template <class T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

// Writes all N at once.  Left to itself nvcc takes a struct that was computed in a loop apart into N stores.
template <class T, int N> WPLUS_INLINE void put(T* to, const Pack<T, N>& from) {
#if defined(__CUDA_ARCH__)
    unsigned w[(sizeof(Pack<T, N>) + 3) / 4];
    if constexpr (sizeof(from) == 16) {
        memcpy(w, &from, 16);
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
                     : "memory");
    } else if constexpr (sizeof(from) == 8) {
        memcpy(w, &from, 8);
        asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(w[0]), "r"(w[1]) : "memory");
    } else if constexpr (sizeof(from) == 4) {
        memcpy(w, &from, 4);
        asm volatile("st.global.b32 [%0], %1;" ::"l"(to), "r"(w[0]) : "memory");
    } else
#endif
        *reinterpret_cast<Pack<T, N>*>(to) = from;
}

// N numbers as they lie in memory, held in whole registers until they are computed with.
template <class T, int N> struct Words {
    using Word = std::conditional_t<sizeof(T) * N % 4 == 0, uint32_t, uint16_t>;
    static constexpr int EACH = sizeof(Word) >= sizeof(T) ? sizeof(Word) / sizeof(T) : 1;
    Pack<Word, sizeof(T) * N / sizeof(Word)> words;

    WPLUS_INLINE static Words read(const T* from) { return {*reinterpret_cast<const decltype(words)*>(from)}; }

    WPLUS_INLINE void widened(typename Wide<T>::type (&to)[N]) const {
        WPLUS_UNROLL
        for (int k = 0; k < N; k += EACH) {
            T some[EACH];
            memcpy(some, &words.at[k / EACH], sizeof(some));
            WPLUS_UNROLL
            for (int i = 0; i < EACH; ++i) to[k + i] = widen(some[i]);
        }
    }
};

// N float32 that lie beside each other, `otherwise` where there are none; 16 bytes at a time (the address allows it).
template <int N> WPLUS_INLINE void fetch(const float* from, float otherwise, float (&to)[N]) {
    if constexpr (N % 4 == 0) {
        WPLUS_UNROLL
        for (int k = 0; k < N; k += 4) {
            Pack<float, 4> some{{otherwise, otherwise, otherwise, otherwise}};
            if (from) some = *reinterpret_cast<const Pack<float, 4>*>(from + k);
            WPLUS_UNROLL
            for (int i = 0; i < 4; ++i) to[k + i] = some.at[i];
        }
    } else {
        WPLUS_UNROLL
        for (int k = 0; k < N; ++k) to[k] = from ? from[k] : otherwise;
    }
}

// n / d for a fixed d: multiply and shift where n < 2^31, an ordinary division of 64 bits beyond.
struct Divider {
    uint64_t d;
    uint32_t factor, shift;
    bool wide;
};

inline Divider divider(int64_t d, int64_t largest) {
    Divider by{static_cast<uint64_t>(d), 0, 0, largest >= (int64_t{1} << 31) || d >= (int64_t{1} << 31)};
    if (by.wide) return by;
    while ((uint64_t{1} << by.shift) < by.d) ++by.shift;
    by.factor = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << by.shift) - by.d)) / by.d + 1);
    return by;
}

WPLUS_INLINE int64_t quotient(int64_t n, const Divider& by) {
    if (by.wide) return static_cast<int64_t>(static_cast<uint64_t>(n) / by.d);
    const uint64_t product = static_cast<uint64_t>(static_cast<uint32_t>(n)) * by.factor;
    return static_cast<int64_t>((static_cast<uint32_t>(product >> 32) + static_cast<uint32_t>(n)) >> by.shift);
}

WPLUS_INLINE int64_t remainder(int64_t n, const Divider& by) {
    return n - quotient(n, by) * static_cast<int64_t>(by.d);
}

// ---- launch

#if defined(__CUDACC__)
template <class Kernel>
__global__ void __launch_bounds__(Kernel::THREADS, Kernel::BLOCKS) kernel(const __grid_constant__ typename Kernel::Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    Kernel::template run<0>(arguments, blockIdx.x, threadIdx.x, shared);
    if constexpr (Kernel::PHASES > 1) {
        __syncthreads();
        Kernel::template run<1>(arguments, blockIdx.x, threadIdx.x, shared);
    }
}

template <class Kernel>
int32_t launch(const typename Kernel::Arguments& arguments, int64_t blocks, int64_t shared, void* stream) {
    if (blocks > 0x7fffffff) return NO_KERNEL;
    if (blocks <= 0) return 0;
    kernel<Kernel><<<static_cast<unsigned>(blocks), Kernel::THREADS, shared, static_cast<cudaStream_t>(stream)>>>(arguments);
    return static_cast<int32_t>(cudaGetLastError());
}
#else
template <class Kernel>
int32_t launch(const typename Kernel::Arguments& arguments, int64_t blocks, int64_t shared, void*) {
    if (blocks > 0x7fffffff) return NO_KERNEL;
    std::vector<Pack<double, 2>> memory((shared + 15) / 16 + 1);
    for (int64_t block = 0; block < blocks; ++block) {
        std::memset(memory.data(), 0xff, memory.size() * 16);  // NaNs: what nobody wrote must not be read
        for (int thread = 0; thread < Kernel::THREADS; ++thread)
            Kernel::template run<0>(arguments, block, thread, memory.data());
        if constexpr (Kernel::PHASES > 1)
            for (int thread = 0; thread < Kernel::THREADS; ++thread)
                Kernel::template run<1>(arguments, block, thread, memory.data());
    }
    return 0;
}
#endif

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline bool aligned(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

}  // namespace wplus

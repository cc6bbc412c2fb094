// Channels to space by the inverse Haar transform (MobileStyleGAN, arXiv 2104.04767, eq. 2):
// gain * x (B, 4C, H, W) -> y (B, C, 2H, 2W).  Channels are band-major: C of LL, then C each of LH, HL, HH.
//
// A thread reads the four bands at N places, which are channels in channels_last and columns in NCHW, and writes the
// four pixels that each of them makes, 16 bytes at a time.
#include "core.h"

namespace wplus {

struct Haar {
    const void* x;
    const float* gain;  // (B, 4C), or null
    void* y;
    int64_t batch, channels, height, width;  // channels: C, of the output
    Divider by_a, by_b, by_c;
};

template <class T, int N, bool LAST> struct HaarKernel {
    using Arguments = Haar;
    using A = typename Wide<T>::type;
    static constexpr int THREADS = 256, PHASES = 1, BLOCKS = 0;

    template <int> WPLUS_INLINE static void run(const Arguments& a, int64_t block, int thread, void*) {
        const int64_t index = block * THREADS + thread;
        const int64_t q = quotient(index, a.by_a), r = quotient(q, a.by_b), image = quotient(r, a.by_c);
        if (image >= a.batch) return;
        const int64_t last = index - q * static_cast<int64_t>(a.by_a.d), middle = q - r * static_cast<int64_t>(a.by_b.d);
        const int64_t first = r - image * static_cast<int64_t>(a.by_c.d);
        const int64_t c = LAST ? last * N : first, v = LAST ? first : middle, u = LAST ? middle : last * N;
        const int64_t band = LAST ? a.channels : a.channels * a.height * a.width;
        const int64_t from = LAST ? ((image * a.height + v) * a.width + u) * 4 * a.channels + c
                                  : ((image * 4 * a.channels + c) * a.height + v) * a.width + u;
        Pack<T, N> bands[4];
        WPLUS_UNROLL
        for (int k = 0; k < 4; ++k)
            bands[k] = *reinterpret_cast<const Pack<T, N>*>(static_cast<const T*>(a.x) + from + k * band);
        Pack<T, N> out[2][2];
        constexpr int ALONG = LAST ? N : 1;  // channels of a thread
        float gain[4][ALONG];
        WPLUS_UNROLL
        for (int k = 0; k < 4; ++k)
            fetch<ALONG>(a.gain ? a.gain + (image * 4 + k) * a.channels + c : nullptr, 1.f, gain[k]);
        WPLUS_UNROLL
        for (int n = 0; n < N; ++n) {
            A in[4];
            WPLUS_UNROLL
            for (int k = 0; k < 4; ++k) in[k] = A(widen(bands[k].at[n])) * A(0.5) * A(gain[k][LAST ? n : 0]);
            const A plus = in[0] + in[1], minus = in[0] - in[1], high_plus = in[2] + in[3], high_minus = in[2] - in[3];
            out[0][0].at[n] = narrow<T>(plus + high_plus);
            out[0][1].at[n] = narrow<T>(plus - high_plus);
            out[1][0].at[n] = narrow<T>(minus + high_minus);
            out[1][1].at[n] = narrow<T>(minus - high_minus);
        }
        WPLUS_UNROLL
        for (int i = 0; i < 2; ++i) {
            const int64_t row = 2 * v + i, wide = 2 * a.width;
            if constexpr (LAST) {
                T* y = static_cast<T*>(a.y) + ((image * 2 * a.height + row) * wide + 2 * u) * a.channels + c;
                put(y, out[i][0]);
                put(y + a.channels, out[i][1]);
            } else {
                T* y = static_cast<T*>(a.y) + ((image * a.channels + c) * 2 * a.height + row) * wide + 2 * u;
                Pack<T, 2 * N> line;
                WPLUS_UNROLL
                for (int n = 0; n < N; ++n) line.at[2 * n] = out[i][0].at[n], line.at[2 * n + 1] = out[i][1].at[n];
                put(y, line);
            }
        }
    }
};

template <class T, int N, bool LAST> int32_t run_haar(Haar a, void* stream) {
    const int64_t packs = (LAST ? a.channels : a.width) / N, count = a.batch * packs * a.height * (LAST ? a.width : a.channels);
    a.by_a = divider(packs, count + 256);
    a.by_b = divider(LAST ? a.width : a.height, count + 256);
    a.by_c = divider(LAST ? a.height : a.channels, count + 256);
    return launch<HaarKernel<T, N, LAST>>(a, ceil_div(count, 256), 0, stream);
}

template <class T> int32_t haar(const Haar& a, bool channels_last, void* stream) {
    if (!aligned(a.y, 2 * sizeof(T))) return NO_KERNEL;
    if (!channels_last) {
        constexpr int N = sizeof(T) == 8 ? 1 : 8 / sizeof(T);
        if (a.width % N == 0 && aligned(a.x, 8) && aligned(a.y, 16)) return run_haar<T, N, false>(a, stream);
        return run_haar<T, 1, false>(a, stream);
    }
    constexpr int N = 16 / sizeof(T);
    const bool packs = a.channels % N == 0 && aligned(a.x, 16) && aligned(a.y, 16) && aligned(a.gain, 16);
    return packs ? run_haar<T, N, true>(a, stream) : run_haar<T, 1, true>(a, stream);
}

}  // namespace wplus

using namespace wplus;

// x (B, 4C, H, W) -> y (B, C, 2H, 2W), `channels` is C; both NCHW or both channels_last; gain (B, 4C) float32 or null.
WPLUS_EXPORT int32_t wplus_inverse_haar(int32_t type, const void* x, const float* gain, void* y, int64_t batch,
                                        int64_t channels, int64_t height, int64_t width, int32_t channels_last,
                                        void* stream) {
    const Haar a{x, gain, y, batch, channels, height, width, {}, {}, {}};
    if (batch * channels * height * width == 0) return 0;
    if (type == FLOAT32) return haar<float>(a, channels_last, stream);
    if (type == FLOAT64) return haar<double>(a, channels_last, stream);
#if defined(WPLUS_HALVES)
    if (type == FLOAT16) return haar<__half>(a, channels_last, stream);
    if (type == BFLOAT16) return haar<__nv_bfloat16>(a, channels_last, stream);
#endif
    return NO_KERNEL;
}

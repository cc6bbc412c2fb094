// y = clamp(gain * f(x + b)), its gradient and its second derivative; and the same behind a styled convolution:
// y = clamp(gain * f(x * scale + noise + b)), where scale (B, C) demodulates (StyleGAN2, arXiv 1912.04958, eq. 3).
//
// One pass over memory.  Tensors are dense, all in the same order of memory; the index of any axis is then
// (i / stride) % size.  16 bytes a thread at a time where the bias allows it.
#include "activation.h"

namespace wplus {

struct BiasAct {
    const void *x, *b, *g, *v;  // x: the input, or what stands for it in a gradient; g, v: what comes from above
    void* y;
    int64_t count;
    Divider step, channels;  // the bias of element i is b[(i / step) % channels]
    Activation f;
};

constexpr int TOGETHER = 2;  // packs a thread has on the way at once

// ORDER 0: y.  1: g * df/dx.  2: g * v * d2f/dx2.
template <class T, int ORDER, int KNOWN, int N> struct BiasActKernel {
    using Arguments = BiasAct;
    using A = typename Wide<T>::type;
    static constexpr int THREADS = 256, PHASES = 1, BLOCKS = 0;

    template <int> WPLUS_INLINE static void run(const Arguments& a, int64_t block, int thread, void*) {
        const int64_t first = (block * THREADS * TOGETHER + thread) * N;
        Pack<T, N> x[TOGETHER], g[TOGETHER], v[TOGETHER];
        WPLUS_UNROLL
        for (int k = 0; k < TOGETHER; ++k) {
            const int64_t i = first + int64_t{k} * THREADS * N;
            if (i >= a.count) continue;
            x[k] = *reinterpret_cast<const Pack<T, N>*>(static_cast<const T*>(a.x) + i);
            if (ORDER > 0) g[k] = *reinterpret_cast<const Pack<T, N>*>(static_cast<const T*>(a.g) + i);
            if (ORDER > 1) v[k] = *reinterpret_cast<const Pack<T, N>*>(static_cast<const T*>(a.v) + i);
        }
        WPLUS_UNROLL
        for (int k = 0; k < TOGETHER; ++k) {
            const int64_t i = first + int64_t{k} * THREADS * N;
            if (i >= a.count) continue;
            // either all N share one bias (step is a multiple of N) or their biases lie side by side (step is 1)
            const T* b = a.b ? static_cast<const T*>(a.b) + remainder(quotient(i, a.step), a.channels) : nullptr;
            const int apart = a.step.d == 1;
            Pack<T, N> y;
            WPLUS_UNROLL
            for (int j = 0; j < N; ++j) {
                const A z = widen(x[k].at[j]) + (b ? A(widen(b[apart * j])) : A(0));
                A out;
                if (ORDER == 0) out = value<KNOWN>(a.f, z);
                if (ORDER == 1) out = widen(g[k].at[j]) * slope<KNOWN>(a.f, z);
                if (ORDER == 2) out = A(widen(g[k].at[j])) * A(widen(v[k].at[j])) * bend<KNOWN>(a.f, z);
                y.at[j] = narrow<T>(out);
            }
            *reinterpret_cast<Pack<T, N>*>(static_cast<T*>(a.y) + i) = y;
        }
    }
};

struct Styled {
    const void* x;
    const float *scale, *noise, *b;  // (B, C), (H, W) or (B, H, W), (C,); any may be missing
    void* y;
    int64_t batch, channels, area, noise_step;  // noise_step: numbers from one image's noise to the next's, 0 if they share
    Divider by_a, by_b;
    Activation f;
};

// channels_last: N channels of one pixel, at two pixels.
template <class T, int N> struct StyledChannels {
    using Arguments = Styled;
    using A = typename Wide<T>::type;
    static constexpr int THREADS = 256, PHASES = 1, BLOCKS = 0;

    template <int> WPLUS_INLINE static void run(const Arguments& a, int64_t block, int thread, void*) {
        const int64_t first = block * THREADS * TOGETHER + thread;
        const int64_t count = a.batch * a.area * static_cast<int64_t>(a.by_a.d);
        Pack<T, N> x[TOGETHER];
        WPLUS_UNROLL
        for (int k = 0; k < TOGETHER; ++k) {
            const int64_t i = first + int64_t{k} * THREADS;
            if (i < count) x[k] = *reinterpret_cast<const Pack<T, N>*>(static_cast<const T*>(a.x) + i * N);
        }
        WPLUS_UNROLL
        for (int k = 0; k < TOGETHER; ++k) {
            const int64_t i = first + int64_t{k} * THREADS;
            if (i >= count) continue;
            const int64_t pixel = quotient(i, a.by_a), n = quotient(pixel, a.by_b);
            const int64_t c = (i - pixel * static_cast<int64_t>(a.by_a.d)) * N;
            float scale[N], b[N];
            fetch<N>(a.scale ? a.scale + n * a.channels + c : nullptr, 1.f, scale);
            fetch<N>(a.b ? a.b + c : nullptr, 0.f, b);
            const float noise = a.noise ? a.noise[n * a.noise_step + pixel - n * a.area] : 0.f;
            Pack<T, N> y;
            WPLUS_UNROLL
            for (int j = 0; j < N; ++j)
                y.at[j] = narrow<T>(rectified(a.f, widen(x[k].at[j]) * scale[j] + (noise + b[j])));
            put(static_cast<T*>(a.y) + i * N, y);
        }
    }
};

// NCHW: N pixels beside each other, in four channels, so that the noise is read once for all of them.
template <class T, int N> struct StyledPixels {
    using Arguments = Styled;
    using A = typename Wide<T>::type;
    static constexpr int THREADS = 256, PHASES = 1, BLOCKS = 0, SHARED = 4;

    template <int> WPLUS_INLINE static void run(const Arguments& a, int64_t block, int thread, void*) {
        // index = (image * groups of channels + group) * packs + pack
        const int64_t index = block * THREADS + thread, q = quotient(index, a.by_a), n = quotient(q, a.by_b);
        if (n >= a.batch) return;
        const int64_t place = (index - q * static_cast<int64_t>(a.by_a.d)) * N;
        const int64_t c = (q - n * static_cast<int64_t>(a.by_b.d)) * SHARED, at = (n * a.channels + c) * a.area + place;
        Pack<T, N> x[SHARED];
        WPLUS_UNROLL
        for (int k = 0; k < SHARED; ++k)
            if (c + k < a.channels) x[k] = *reinterpret_cast<const Pack<T, N>*>(static_cast<const T*>(a.x) + at + k * a.area);
        float noise[N];
        fetch<N>(a.noise ? a.noise + n * a.noise_step + place : nullptr, 0.f, noise);
        WPLUS_UNROLL
        for (int k = 0; k < SHARED; ++k) {
            if (c + k >= a.channels) continue;
            const float scale = a.scale ? a.scale[n * a.channels + c + k] : 1.f, b = a.b ? a.b[c + k] : 0.f;
            Pack<T, N> y;
            WPLUS_UNROLL
            for (int j = 0; j < N; ++j)
                y.at[j] = narrow<T>(rectified(a.f, widen(x[k].at[j]) * scale + (noise[j] + b)));
            put(static_cast<T*>(a.y) + at + k * a.area, y);
        }
    }
};

template <class Kernel> int32_t each(const typename Kernel::Arguments& a, int n, void* stream) {
    return launch<Kernel>(a, ceil_div(a.count, int64_t{Kernel::THREADS} * TOGETHER * n), 0, stream);
}

template <class T, int ORDER, int N> int32_t by_activation(const BiasAct& a, void* stream) {
    if (a.f.kind == LINEAR) return each<BiasActKernel<T, ORDER, LINEAR, N>>(a, N, stream);
    if (a.f.kind == LRELU) return each<BiasActKernel<T, ORDER, LRELU, N>>(a, N, stream);
    return each<BiasActKernel<T, ORDER, ANY, N>>(a, N, stream);
}

template <class T, int N> int32_t by_order(const BiasAct& a, int32_t order, void* stream) {
    if (order == 0) return by_activation<T, 0, N>(a, stream);
    if (order == 1) return by_activation<T, 1, N>(a, stream);
    if (order == 2) return by_activation<T, 2, N>(a, stream);
    return NO_KERNEL;
}

template <class T> int32_t by_width(const BiasAct& a, int32_t order, void* stream) {
    constexpr int N = 16 / sizeof(T);
    const bool packs = a.count % N == 0 && aligned(a.x, 16) && aligned(a.y, 16) && aligned(a.g, 16) && aligned(a.v, 16);
    const bool biases = !a.b || a.step.d % N == 0 || (a.step.d == 1 && a.channels.d % N == 0);
    return packs && biases ? by_order<T, N>(a, order, stream) : by_order<T, 1>(a, order, stream);
}

template <class T, int N> int32_t styled_channels(Styled a, void* stream) {
    const int64_t packs = a.channels / N, count = a.batch * a.area * packs;
    a.by_a = divider(packs, count + 2 * 256);
    a.by_b = divider(a.area, count + 2 * 256);
    return launch<StyledChannels<T, N>>(a, ceil_div(count, 256 * TOGETHER), 0, stream);
}

template <class T, int N> int32_t styled_pixels(Styled a, void* stream) {
    const int64_t packs = a.area / N, groups = ceil_div(a.channels, 4), count = a.batch * groups * packs;
    a.by_a = divider(packs, count + 256);
    a.by_b = divider(groups, count + 256);
    return launch<StyledPixels<T, N>>(a, ceil_div(count, 256), 0, stream);
}

template <class T> int32_t styled(const Styled& a, bool channels_last, void* stream) {
    constexpr int N = 16 / sizeof(T);
    const bool packs = aligned(a.x, 16) && aligned(a.y, 16);
    if (channels_last) {
        const bool together = packs && a.channels % N == 0 && aligned(a.scale, 16) && aligned(a.b, 16);
        return together ? styled_channels<T, N>(a, stream) : styled_channels<T, 1>(a, stream);
    }
    const bool together = packs && a.area % N == 0 && a.noise_step % N == 0 && aligned(a.noise, 16);
    return together ? styled_pixels<T, N>(a, stream) : styled_pixels<T, 1>(a, stream);
}

}  // namespace wplus

using namespace wplus;

// order 0, 1, 2 as above; g and v may be null where the order does not use them; of_output: x holds y instead (LINEAR,
// RELU, LRELU: the slope can be read off it).  Answers a cudaError_t, 0 for success, or NO_KERNEL.
WPLUS_EXPORT int32_t wplus_bias_act(int32_t type, int32_t order, const void* x, const void* b, const void* g,
                                    const void* v, void* y, int64_t count, int64_t step, int64_t channels, int32_t kind,
                                    double alpha, double gain, double clamp, int32_t of_output, void* stream) {
    const BiasAct a{x, b, g, v, y, count, divider(step, count), divider(channels, count),
                    activation(kind, of_output, alpha, gain, clamp)};
    if (type == FLOAT32) return by_width<float>(a, order, stream);
    if (type == FLOAT64) return by_width<double>(a, order, stream);
#if defined(WPLUS_HALVES)
    if (type == FLOAT16) return by_width<__half>(a, order, stream);
    if (type == BFLOAT16) return by_width<__nv_bfloat16>(a, order, stream);
#endif
    return NO_KERNEL;
}

// x (B, C, H, W), NCHW or channels_last; scale, noise and b are float32 and may be null.
WPLUS_EXPORT int32_t wplus_styled_act(int32_t type, const void* x, const float* scale, const float* noise,
                                      const float* b, void* y, int64_t batch, int64_t channels, int64_t area,
                                      int32_t channels_last, int64_t noise_step, double alpha, double gain, double clamp,
                                      void* stream) {
    if (batch * channels * area == 0) return 0;
    const Styled a{x, scale, noise, b, y, batch, channels, area, noise_step, {}, {}, activation(LRELU, 0, alpha, gain, clamp)};
    if (type == FLOAT32) return styled<float>(a, channels_last, stream);
#if defined(WPLUS_HALVES)
    if (type == FLOAT16) return styled<__half>(a, channels_last, stream);
    if (type == BFLOAT16) return styled<__nv_bfloat16>(a, channels_last, stream);
#endif
    return NO_KERNEL;
}

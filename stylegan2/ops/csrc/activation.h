// Activations f, scaled and clamped, with their first and second derivatives.  z is the input x + b; in `slope` it may
// be the output instead where Activation::of_output says so: its sign and size tell a rectifier's slope.
#pragma once

#include "core.h"

namespace wplus {

enum Kind : int32_t { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH, ANY };  // order of ACTIVATIONS

struct Activation {
    int32_t kind, of_output;
    double alpha, gain, clamp;  // clamp < 0: none
    float alpha32, gain32, clamp32;  // the same: converting to float is slow on many GPUs
    float slope32, bound32;  // of `rectified`: alpha * gain, and the clamp or infinity
};

inline Activation activation(int32_t kind, int32_t of_output, double alpha, double gain, double clamp) {
    return {kind, of_output, alpha, gain, clamp, float(alpha), float(gain), float(clamp),
            float(alpha * gain), clamp < 0 ? INFINITY : float(clamp)};
}

template <class A> WPLUS_INLINE A alpha_of(const Activation& f) {
    if constexpr (sizeof(A) == 8) return f.alpha;
    else return f.alpha32;
}
template <class A> WPLUS_INLINE A gain_of(const Activation& f) {
    if constexpr (sizeof(A) == 8) return f.gain;
    else return f.gain32;
}
template <class A> WPLUS_INLINE A clamp_of(const Activation& f) {
    if constexpr (sizeof(A) == 8) return f.clamp;
    else return f.clamp32;
}

constexpr double SELU_SCALE = 1.0507009873554804934193349852946, SELU_ALPHA = 1.6732632423543772848170429916717;
constexpr double STRAIGHT = 20;  // from here on softplus(z) is z, as in PyTorch

WPLUS_INLINE float exponential(float x) { return expf(x); }
WPLUS_INLINE double exponential(double x) { return exp(x); }
WPLUS_INLINE float exponential_minus_1(float x) { return expm1f(x); }
WPLUS_INLINE double exponential_minus_1(double x) { return expm1(x); }
WPLUS_INLINE float logarithm_plus_1(float x) { return log1pf(x); }
WPLUS_INLINE double logarithm_plus_1(double x) { return log1p(x); }
WPLUS_INLINE float hyperbolic_tangent(float x) { return tanhf(x); }
WPLUS_INLINE double hyperbolic_tangent(double x) { return tanh(x); }

template <class A> WPLUS_INLINE A sigmoid(A z) {
    const A e = exponential(z < 0 ? z : -z);  // never overflows
    return z < 0 ? e / (A(1) + e) : A(1) / (A(1) + e);
}

// f(z) before gain and clamp.  KNOWN: the kind, where it is fixed when the kernel is compiled.
template <int KNOWN, class A> WPLUS_INLINE A plain(const Activation& f, A z) {
    switch (KNOWN == ANY ? f.kind : KNOWN) {
        case RELU: return z < 0 ? A(0) : z;  // a NaN stays one
        case LRELU: return z > 0 ? z : z * alpha_of<A>(f);
        case TANH: return hyperbolic_tangent(z);
        case SIGMOID: return sigmoid(z);
        case ELU: return z > 0 ? z : exponential_minus_1(z);
        case SELU: return A(SELU_SCALE) * (z > 0 ? z : A(SELU_ALPHA) * exponential_minus_1(z));
        case SOFTPLUS: return z > A(STRAIGHT) ? z : logarithm_plus_1(exponential(z));
        case SWISH: return z * sigmoid(z);
        default: return z;
    }
}

template <int KNOWN, class A> WPLUS_INLINE A value(const Activation& f, A z) {
    const A y = plain<KNOWN>(f, z) * gain_of<A>(f), c = clamp_of<A>(f);
    if (clamp_of<A>(f) < 0) return y;
    return y < -c ? -c : y > c ? c : y;  // a NaN stays one
}

// The same for a leaky ReLU of float32, in few instructions.
WPLUS_INLINE float rectified(const Activation& f, float z) {
    const float y = z * (z > 0 ? f.gain32 : f.slope32);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    float result;  // a NaN stays one; without a clamp the bound is infinite
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(y), "f"(f.bound32));
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(result), "f"(-f.bound32));
    return result;
#else
    return y < -f.bound32 ? -f.bound32 : y > f.bound32 ? f.bound32 : y;
#endif
}

// Whether the clamp lets a gradient through.  At the bound itself the input passes, an output cannot tell.
template <int KNOWN, class A> WPLUS_INLINE bool passes(const Activation& f, A z) {
    if (clamp_of<A>(f) < 0) return true;
    const A y = f.of_output ? z : plain<KNOWN>(f, z) * gain_of<A>(f), size = y < 0 ? -y : y;
    return f.of_output ? size < clamp_of<A>(f) : size <= clamp_of<A>(f);
}

template <int KNOWN, class A> WPLUS_INLINE A slope(const Activation& f, A z) {
    if (!passes<KNOWN>(f, z)) return A(0);
    const A gain = gain_of<A>(f);
    switch (KNOWN == ANY ? f.kind : KNOWN) {
        case RELU: return z > 0 ? gain : A(0);
        case LRELU: return z > 0 ? gain : gain * alpha_of<A>(f);
        case TANH: { const A t = hyperbolic_tangent(z); return gain * (A(1) - t * t); }
        case SIGMOID: { const A s = sigmoid(z); return gain * s * (A(1) - s); }
        case ELU: return z > 0 ? gain : gain * exponential(z);
        case SELU: return gain * A(SELU_SCALE) * (z > 0 ? A(1) : A(SELU_ALPHA) * exponential(z));
        case SOFTPLUS: return z > A(STRAIGHT) ? gain : gain * sigmoid(z);
        case SWISH: { const A s = sigmoid(z); return gain * s * (A(1) + z * (A(1) - s)); }
        default: return gain;
    }
}

template <int KNOWN, class A> WPLUS_INLINE A bend(const Activation& f, A z) {
    if (!passes<KNOWN>(f, z)) return A(0);
    const A gain = gain_of<A>(f);
    switch (KNOWN == ANY ? f.kind : KNOWN) {
        case TANH: { const A t = hyperbolic_tangent(z); return gain * A(-2) * t * (A(1) - t * t); }
        case SIGMOID: { const A s = sigmoid(z); return gain * s * (A(1) - s) * (A(1) - A(2) * s); }
        case ELU: return z > 0 ? A(0) : gain * exponential(z);
        case SELU: return z > 0 ? A(0) : gain * A(SELU_SCALE) * A(SELU_ALPHA) * exponential(z);
        case SOFTPLUS: { const A s = sigmoid(z); return z > A(STRAIGHT) ? A(0) : gain * s * (A(1) - s); }
        case SWISH: { const A s = sigmoid(z); return gain * s * (A(1) - s) * (A(2) + z * (A(1) - A(2) * s)); }
        default: return A(0);
    }
}

}  // namespace wplus

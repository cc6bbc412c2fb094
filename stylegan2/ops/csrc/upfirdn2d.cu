// Zero-insert, pad or crop, filter, decimate (Karras et al., arXiv 1912.04958 and 2106.12423), as one sum an output:
//     y(v, u) = sum over (j, i) of f(j, i) * X(v * down_y + j - pad_top, u * down_x + i - pad_left),
// X being the zero-inserted picture: X(q, p) = x(q / up_y, p / up_x) where both divide, and 0 elsewhere.
//
// Three kernels.  `Tile`: NCHW, filters up to 4x4, factors (1, 1), (2, 1), (1, 2): a tile of the input in shared memory,
// and every thread four columns down several rows, a row of input read once and used in all outputs that it reaches; a
// filter that is an outer product takes 8 multiplications an output instead of 16.  `Strip`: the same for channels_last,
// 16 bytes of channels a thread.  `General`: whatever is left, one output a thread.  Behind the sum `Tile` and `Strip`
// can do what follows it in a StyleGAN2 block: demodulation, noise, bias, leaky ReLU, clamp.
#include "activation.h"

namespace wplus {

struct Epilogue {
    const float *scale, *noise, *b;  // (B, C), (H, W) or (B, H, W), (C,); any may be missing
    int64_t noise_step;
    Activation f;
    int32_t wanted;
};

struct Resample {
    const void* x;
    const void* fir;  // (taps_y, taps_x), float32, or float64 for float64 pictures; (1, 1, 1) has one tap
    void* y;
    int64_t batch, channels, in_h, in_w, out_h, out_w;
    int32_t up_x, up_y, down_x, down_y, pad_left, pad_top, taps_x, taps_y, flip, channels_last;
    double gain;
    int32_t shift_x, shift_y;  // by which tiles begin early, so that each begins on a pixel that was not inserted
    int64_t tiles_x, tiles_y;
    Divider by_a, by_b, by_c;
    Epilogue epilogue;
};

// Tap (j, i) of the correlation, zeros beyond the filter's size.
template <class A> WPLUS_INLINE A tap(const Resample& a, int j, int i) {
    if (j >= a.taps_y || i >= a.taps_x) return A(0);
    const int at = a.flip ? j * a.taps_x + i : (a.taps_y - 1 - j) * a.taps_x + (a.taps_x - 1 - i);
    return static_cast<const A*>(a.fir)[at] * A(a.gain);
}

constexpr int TAPS = 4;

// The filter as `Tile` and `Strip` use it, a tap a thread.
template <class A> struct alignas(16) Taps { A at[TAPS][TAPS]; };

template <class A> WPLUS_INLINE void read_taps(const Resample& a, Taps<A>& t, int thread) {
    if (thread < TAPS * TAPS) t.at[thread / TAPS][thread % TAPS] = tap<A>(a, thread / TAPS, thread % TAPS);
}

// Rows and columns if the filter is an outer product.  Every thread finds them for itself, from shared memory.
template <class A> struct Lines {
    A row[TAPS], column[TAPS];
    bool outer;

    WPLUS_INLINE explicit Lines(const Taps<A>& t) {
        int pj = 0, pi = 0;
        A most = 0;
        WPLUS_UNROLL
        for (int j = 0; j < TAPS; ++j)
            WPLUS_UNROLL
            for (int i = 0; i < TAPS; ++i) {
                const A size = t.at[j][i] < 0 ? -t.at[j][i] : t.at[j][i];
                if (size > most) most = size, pj = j, pi = i;
            }
        outer = most > 0;
        const A over = most > 0 ? A(1) / t.at[pj][pi] : A(0);
        WPLUS_UNROLL
        for (int k = 0; k < TAPS; ++k) row[k] = t.at[pj][k], column[k] = t.at[k][pi] * over;
        WPLUS_UNROLL
        for (int j = 0; j < TAPS; ++j)
            WPLUS_UNROLL
            for (int i = 0; i < TAPS; ++i) {
                const A off = t.at[j][i] - column[j] * row[i];
                if ((off < 0 ? -off : off) > most * A(1e-6)) outer = false;
            }
    }
};

// ---- NCHW

// LANES threads beside each other, four columns each; ROWS outputs down each column.
template <class T, int UP, int DOWN, int LANES, int ROWS> struct Tile {
    using Arguments = Resample;
    using A = typename Wide<T>::type;
    static constexpr int THREADS = 128, PHASES = 2, COLUMNS = 4;
    // 31 of 32 lanes have work, so that a row of input is a whole number of warps wide
    static constexpr int WIDTH = LANES == 32 ? 124 : LANES * COLUMNS, HEIGHT = THREADS / LANES * ROWS;
    static constexpr int IN_W = ((WIDTH - 1) * DOWN + TAPS - 1) / UP + 1, IN_H = ((HEIGHT - 1) * DOWN + TAPS - 1) / UP + 1;
    static constexpr int TOGETHER = UP == 2 ? 2 : 4;  // numbers that are read from shared memory at once
    static constexpr int NEED = ((COLUMNS - 1) * DOWN + TAPS - 1) / UP + 1;  // input columns and rows a thread needs
    static constexpr int NEED_ROWS = ((ROWS - 1) * DOWN + TAPS - 1) / UP + 1;
    static constexpr int READ = (NEED + TOGETHER - 1) / TOGETHER * TOGETHER;
    static constexpr int LAST = (WIDTH / COLUMNS - 1) * COLUMNS * DOWN / UP + READ;  // where the last lane's reading ends
    static constexpr int PITCH = ((LAST > IN_W ? LAST : IN_W) + 3) / 4 * 4;

    struct alignas(16) Shared {
        A picture[IN_H][PITCH];
        Taps<A> taps;
    };

    WPLUS_INLINE static void origin(const Arguments& a, int64_t block, int64_t& plane, int& v, int& u) {
        const int64_t row = quotient(block, a.by_a);
        plane = quotient(row, a.by_b);
        u = int(block - row * a.tiles_x) * WIDTH - a.shift_x;
        v = int(row - plane * a.tiles_y) * HEIGHT - a.shift_y;
    }

    template <int PHASE> WPLUS_INLINE static void run(const Arguments& a, int64_t block, int thread, void* memory) {
        Shared& shared = *static_cast<Shared*>(memory);
        if constexpr (PHASE == 0) load(a, block, thread, shared);
        else compute(a, block, thread, shared);
    }

    WPLUS_INLINE static void load(const Arguments& a, int64_t block, int thread, Shared& shared) {
        int64_t plane;
        int v, u;
        origin(a, block, plane, v, u);
        // both differences are multiples of UP, by the choice of the shifts
        const int top = (v * DOWN - a.pad_top) / UP, left = (u * DOWN - a.pad_left) / UP, lane = thread % 32;
        const T* x = static_cast<const T*>(a.x) + plane * a.in_h * a.in_w;
        read_taps(a, shared.taps, thread);
        WPLUS_UNROLL
        for (int c = 0; c < (PITCH + 31) / 32; ++c) {
            const int column = lane + 32 * c, from = left + column;
            const bool inside = column < IN_W && from >= 0 && from < a.in_w;
            if (column >= PITCH) continue;
            constexpr int LINES = (IN_H + THREADS / 32 - 1) / (THREADS / 32), AHEAD = LINES > 9 ? 6 : LINES;
            WPLUS_UNROLL
            for (int first = 0; first < LINES; first += AHEAD) {
                T read[AHEAD];
                WPLUS_UNROLL
                for (int k = 0; k < AHEAD; ++k) {
                    const int r = thread / 32 + (first + k) * (THREADS / 32), line = top + r;
                    read[k] = T(0.f);
                    if (inside && r < IN_H && line >= 0 && line < a.in_h) read[k] = x[int64_t{line} * a.in_w + from];
                }
                WPLUS_UNROLL
                for (int k = 0; k < AHEAD; ++k) {
                    const int r = thread / 32 + (first + k) * (THREADS / 32);
                    if (r < IN_H) shared.picture[r][column] = A(widen(read[k]));
                }
            }
        }
    }

    WPLUS_INLINE static void compute(const Arguments& a, int64_t block, int thread, const Shared& shared) {
        const int lane = thread % LANES;
        if (lane * COLUMNS >= WIDTH) return;
        A sums[ROWS][COLUMNS] = {};
        const Lines<A> lines(shared.taps);
        if (lines.outer) gather<true>(shared, lines, lane, thread / LANES, sums);
        else gather<false>(shared, lines, lane, thread / LANES, sums);
        int64_t plane;
        int v, u;
        origin(a, block, plane, v, u);
        v += thread / LANES * ROWS;
        u += lane * COLUMNS;
        T* y = static_cast<T*>(a.y) + plane * a.out_h * a.out_w;
        const int64_t image = a.epilogue.wanted ? quotient(plane, a.by_c) : 0, channel = plane - image * a.channels;
        const bool whole = u >= 0 && u + COLUMNS <= a.out_w && a.out_w % COLUMNS == 0 && a.shift_x == 0;
        const Epilogue& e = a.epilogue;
        const float scale = e.wanted && e.scale ? e.scale[plane] : 1.f, b = e.wanted && e.b ? e.b[channel] : 0.f;
        WPLUS_UNROLL
        for (int r = 0; r < ROWS; ++r) {
            if (v + r < 0 || v + r >= a.out_h) continue;
            const int64_t at = int64_t{v + r} * a.out_w + u;
            float noise[COLUMNS] = {};
            if (e.wanted && e.noise) {
                WPLUS_UNROLL
                for (int c = 0; c < COLUMNS; ++c)
                    if (whole || (u + c >= 0 && u + c < a.out_w)) noise[c] = e.noise[image * e.noise_step + at + c];
            }
            Pack<T, COLUMNS> out;
            WPLUS_UNROLL
            for (int c = 0; c < COLUMNS; ++c) {
                const A sum = sums[r][c];
                out.at[c] = narrow<T>(e.wanted ? value<LRELU>(e.f, sum * scale + noise[c] + b) : sum);
            }
            if (whole) {
                put(y + at, out);
            } else {
                WPLUS_UNROLL
                for (int c = 0; c < COLUMNS; ++c)
                    if (u + c >= 0 && u + c < a.out_w) y[at + c] = out.at[c];
            }
        }
    }

    template <bool OUTER>
    WPLUS_INLINE static void gather(const Shared& shared, const Lines<A>& lines, int lane, int strip,
                                    A (&sums)[ROWS][COLUMNS]) {
        const Taps<A>& taps = shared.taps;
        A row[TAPS], column[TAPS], at[OUTER ? 1 : TAPS][TAPS];
        WPLUS_UNROLL
        for (int k = 0; k < TAPS; ++k) {
            row[k] = lines.row[k], column[k] = lines.column[k];
            if (!OUTER) {
                WPLUS_UNROLL
                for (int i = 0; i < TAPS; ++i) at[OUTER ? 0 : k][i] = taps.at[k][i];
            }
        }
        const int first = lane * COLUMNS * DOWN / UP, above = strip * ROWS * DOWN / UP;
        WPLUS_UNROLL
        for (int line = 0; line < NEED_ROWS; ++line) {
            A in[READ];
            WPLUS_UNROLL
            for (int k = 0; k < READ; k += TOGETHER) {
                const auto some = *reinterpret_cast<const Pack<A, TOGETHER>*>(&shared.picture[above + line][first + k]);
                WPLUS_UNROLL
                for (int i = 0; i < TOGETHER; ++i) in[k + i] = some.at[i];
            }
            A across[COLUMNS] = {};
            if (OUTER) {
                WPLUS_UNROLL
                for (int c = 0; c < COLUMNS; ++c)
                    WPLUS_UNROLL
                    for (int i = 0; i < TAPS; ++i)
                        if ((c * DOWN + i) % UP == 0) across[c] += row[i] * in[(c * DOWN + i) / UP];
            }
            WPLUS_UNROLL
            for (int r = 0; r < ROWS; ++r) {
                const int j = line * UP - r * DOWN;
                if (j < 0 || j >= TAPS) continue;
                WPLUS_UNROLL
                for (int c = 0; c < COLUMNS; ++c) {
                    if (OUTER) {
                        sums[r][c] += column[j] * across[c];
                    } else {
                        WPLUS_UNROLL
                        for (int i = 0; i < TAPS; ++i)
                            if ((c * DOWN + i) % UP == 0) sums[r][c] += at[OUTER ? 0 : j][i] * in[(c * DOWN + i) / UP];
                    }
                }
            }
        }
    }
};

// ---- channels_last

// A thread: N channels of one column, ROWS outputs down.
template <class T, int UP, int DOWN, int ROWS> struct Strip {
    using Arguments = Resample;
    using A = typename Wide<T>::type;
    static constexpr int THREADS = 128, PHASES = 2, N = 16 / sizeof(T);
    static constexpr int NEED_ROWS = ((ROWS - 1) * DOWN + TAPS - 1) / UP + 1, NEED = (TAPS + UP - 1) / UP;
    using Shared = Taps<A>;

    template <int PHASE> WPLUS_INLINE static void run(const Arguments& a, int64_t block, int thread, void* memory) {
        if constexpr (PHASE == 0) {
            read_taps(a, *static_cast<Shared*>(memory), thread);
        } else {
            compute(a, block * THREADS + thread, *static_cast<const Shared*>(memory));
        }
    }

    WPLUS_INLINE static void compute(const Arguments& a, int64_t index, const Shared& taps) {
        // index = ((image * tiles_y + strip) * out_w + u) * packs + pack
        const int64_t place = quotient(index, a.by_a), line = quotient(place, a.by_b), image = quotient(line, a.by_c);
        if (image >= a.batch) return;
        const int64_t channel = (index - place * static_cast<int64_t>(a.by_a.d)) * N;
        const int u = int(place - line * a.out_w), v = int(line - image * a.tiles_y) * ROWS - a.shift_y;
        const int top = (v * DOWN - a.pad_top) / UP, from = u * DOWN - a.pad_left;
        const int skip = UP == 1 ? 0 : ((-from) % UP + UP) % UP;  // inserted columns before the first one that counts
        const int left = (from + skip) / UP;
        const T* x = static_cast<const T*>(a.x) + image * a.in_h * a.in_w * a.channels + channel;
        const Lines<A> lines(taps);
        A row[NEED];
        WPLUS_UNROLL
        for (int c = 0; c < NEED; ++c) row[c] = UP == 2 && skip ? lines.row[(c * UP + 1) % TAPS] : lines.row[c * UP];
        A sums[ROWS][N] = {};
        WPLUS_UNROLL
        for (int r = 0; r < NEED_ROWS; ++r) {
            const int from_line = top + r;
            if (from_line < 0 || from_line >= a.in_h) continue;
            A in[NEED][N], across[N] = {};
            WPLUS_UNROLL
            for (int c = 0; c < NEED; ++c) {
                const int column = left + c;
                Pack<T, N> some;
                const bool there = column >= 0 && column < a.in_w;
                if (there) some = *reinterpret_cast<const Pack<T, N>*>(x + (int64_t{from_line} * a.in_w + column) * a.channels);
                WPLUS_UNROLL
                for (int k = 0; k < N; ++k) {
                    in[c][k] = there ? A(widen(some.at[k])) : A(0);
                    across[k] += row[c] * in[c][k];
                }
            }
            WPLUS_UNROLL
            for (int out = 0; out < ROWS; ++out) {
                const int j = r * UP - out * DOWN;
                if (j < 0 || j >= TAPS) continue;
                if (lines.outer) {
                    WPLUS_UNROLL
                    for (int k = 0; k < N; ++k) sums[out][k] += lines.column[j] * across[k];
                } else {
                    WPLUS_UNROLL
                    for (int c = 0; c < NEED; ++c) {
                        const int i = skip + c * UP;
                        const A weight = i < TAPS ? taps.at[j][i] : A(0);
                        WPLUS_UNROLL
                        for (int k = 0; k < N; ++k) sums[out][k] += weight * in[c][k];
                    }
                }
            }
        }
        const Epilogue& e = a.epilogue;
        float scale[N], b[N];
        fetch<N>(e.wanted && e.scale ? e.scale + image * a.channels + channel : nullptr, 1.f, scale);
        fetch<N>(e.wanted && e.b ? e.b + channel : nullptr, 0.f, b);
        WPLUS_UNROLL
        for (int out = 0; out < ROWS; ++out) {
            if (v + out < 0 || v + out >= a.out_h) continue;
            const int64_t pixel = int64_t{v + out} * a.out_w + u;
            const float noise = e.wanted && e.noise ? e.noise[image * e.noise_step + pixel] : 0.f;
            Pack<T, N> y;
            WPLUS_UNROLL
            for (int k = 0; k < N; ++k) {
                const A z = sums[out][k] * scale[k] + noise + b[k];
                y.at[k] = narrow<T>(e.wanted ? value<LRELU>(e.f, z) : sums[out][k]);
            }
            put(static_cast<T*>(a.y) + (image * a.out_h * a.out_w + pixel) * a.channels + channel, y);
        }
    }
};

// ---- anything

template <class T> struct General {
    using Arguments = Resample;
    using A = typename Wide<T>::type;
    static constexpr int THREADS = 256, PHASES = 1;

    template <int> WPLUS_INLINE static void run(const Arguments& a, int64_t block, int thread, void*) {
        const int64_t index = block * THREADS + thread;
        if (index >= a.batch * a.channels * a.out_h * a.out_w) return;
        // NCHW: ((image * C + c) * H + v) * W + u; channels_last: ((image * H + v) * W + u) * C + c
        const int64_t q = quotient(index, a.by_a), r = quotient(q, a.by_b), image = quotient(r, a.by_c);
        const int64_t last = index - q * static_cast<int64_t>(a.by_a.d), middle = q - r * static_cast<int64_t>(a.by_b.d);
        const int64_t first = r - image * static_cast<int64_t>(a.by_c.d);
        const int64_t c = a.channels_last ? last : first, v = a.channels_last ? first : middle;
        const int64_t u = a.channels_last ? middle : last;
        const int64_t pixel = a.channels_last ? a.channels : 1, line = pixel * a.in_w;
        const T* x = static_cast<const T*>(a.x) + image * a.channels * a.in_h * a.in_w
                     + c * (a.channels_last ? 1 : a.in_h * a.in_w);
        const int64_t down = v * a.down_y - a.pad_top, right = u * a.down_x - a.pad_left;
        A sum = 0;
        for (int j = int((a.up_y - down % a.up_y) % a.up_y); j < a.taps_y; j += a.up_y) {
            const int64_t from_line = (down + j) / a.up_y;
            if (down + j < 0 || from_line >= a.in_h) continue;
            for (int i = int((a.up_x - right % a.up_x) % a.up_x); i < a.taps_x; i += a.up_x) {
                const int64_t from = (right + i) / a.up_x;
                if (right + i < 0 || from >= a.in_w) continue;
                sum += tap<A>(a, j, i) * A(widen(x[from_line * line + from * pixel]));
            }
        }
        static_cast<T*>(a.y)[index] = narrow<T>(sum);
    }
};

template <class T> int32_t general(Resample a, void* stream) {
    if (a.epilogue.wanted) return NO_KERNEL;
    const int64_t count = a.batch * a.channels * a.out_h * a.out_w;
    a.by_a = divider(a.channels_last ? a.channels : a.out_w, count);
    a.by_b = divider(a.channels_last ? a.out_w : a.out_h, count);
    a.by_c = divider(a.channels_last ? a.out_h : a.channels, count);
    return launch<General<T>>(a, ceil_div(count, General<T>::THREADS), 0, stream);
}

template <class T, int UP, int DOWN, int LANES, int ROWS> int32_t tiled(Resample a, void* stream) {
    using Kernel = Tile<T, UP, DOWN, LANES, ROWS>;
    static_assert(sizeof(typename Kernel::Shared) <= 48 * 1024, "more shared memory than a launch gives unasked");
    a.shift_x = ((-a.pad_left) % UP + UP) % UP;
    a.shift_y = ((-a.pad_top) % UP + UP) % UP;
    a.tiles_x = ceil_div(a.out_w + a.shift_x, Kernel::WIDTH);
    a.tiles_y = ceil_div(a.out_h + a.shift_y, Kernel::HEIGHT);
    const int64_t planes = a.batch * a.channels, blocks = planes * a.tiles_x * a.tiles_y;
    a.by_a = divider(a.tiles_x, blocks);
    a.by_b = divider(a.tiles_y, blocks);
    a.by_c = divider(a.channels, blocks);
    return launch<Kernel>(a, blocks, sizeof(typename Kernel::Shared), stream);
}

template <class T, int UP, int DOWN, int ROWS> int32_t stripped(Resample a, void* stream) {
    using Kernel = Strip<T, UP, DOWN, ROWS>;
    a.shift_y = ((-a.pad_top) % UP + UP) % UP;
    a.tiles_y = ceil_div(a.out_h + a.shift_y, ROWS);
    const int64_t packs = a.channels / Kernel::N, count = a.batch * a.tiles_y * a.out_w * packs;
    a.by_a = divider(packs, count + Kernel::THREADS);
    a.by_b = divider(a.out_w, count + Kernel::THREADS);
    a.by_c = divider(a.tiles_y, count + Kernel::THREADS);
    return launch<Kernel>(a, ceil_div(count, Kernel::THREADS), sizeof(typename Kernel::Shared), stream);
}

template <class T, int UP, int DOWN> int32_t by_order(const Resample& a, void* stream) {
    constexpr int ROWS = DOWN == 2 ? 4 : 8;
    if (a.channels_last) {
        const bool packs = a.channels % (16 / sizeof(T)) == 0 && aligned(a.x, 16) && aligned(a.y, 16)
                           && aligned(a.epilogue.scale, 16) && aligned(a.epilogue.b, 16);
        return packs ? stripped<T, UP, DOWN, 4>(a, stream) : general<T>(a, stream);
    }
    if (a.out_w <= 32) return tiled<T, UP, DOWN, 8, 2>(a, stream);
    return aligned(a.y, 16) ? tiled<T, UP, DOWN, 32, ROWS>(a, stream) : general<T>(a, stream);
}

template <class T> int32_t by_factors(const Resample& a, void* stream) {
    if (a.taps_x * a.taps_y == 1 && !a.epilogue.wanted) return general<T>(a, stream);  // nothing to share
    const bool small = a.taps_x <= TAPS && a.taps_y <= TAPS && a.in_h < (1 << 24) && a.in_w < (1 << 24);
    const bool alike = a.up_x == a.up_y && a.down_x == a.down_y;
    if (small && alike && a.up_x == 1 && a.down_x == 1) return by_order<T, 1, 1>(a, stream);
    if (small && alike && a.up_x == 2 && a.down_x == 1) return by_order<T, 2, 1>(a, stream);
    if (small && alike && a.up_x == 1 && a.down_x == 2) return by_order<T, 1, 2>(a, stream);
    return general<T>(a, stream);
}

}  // namespace wplus

using namespace wplus;

// x (B, C, in_h, in_w) -> y (B, C, out_h, out_w), both NCHW or both channels_last.  fir is float32, for float64 pictures
// float64.  With `finish` the sum goes through scale, noise, bias (float32, each may be null), leaky ReLU, gain and clamp.
// Answers a cudaError_t, 0 for success, or NO_KERNEL.
WPLUS_EXPORT int32_t wplus_upfirdn2d(int32_t type, const void* x, const void* fir, void* y, int64_t batch,
                                     int64_t channels, int64_t in_h, int64_t in_w, int64_t out_h, int64_t out_w,
                                     int32_t up_x, int32_t up_y, int32_t down_x, int32_t down_y, int32_t pad_left,
                                     int32_t pad_top, int32_t taps_x, int32_t taps_y, int32_t flip,
                                     int32_t channels_last, double gain, int32_t finish, const float* scale,
                                     const float* noise, const float* b, int64_t noise_step, double alpha,
                                     double act_gain, double clamp, void* stream) {
    Resample a{};
    a.x = x, a.fir = fir, a.y = y;
    a.batch = batch, a.channels = channels, a.in_h = in_h, a.in_w = in_w, a.out_h = out_h, a.out_w = out_w;
    a.up_x = up_x, a.up_y = up_y, a.down_x = down_x, a.down_y = down_y, a.pad_left = pad_left, a.pad_top = pad_top;
    a.taps_x = taps_x, a.taps_y = taps_y, a.flip = flip, a.channels_last = channels_last, a.gain = gain;
    a.epilogue = Epilogue{scale, noise, b, noise_step, activation(LRELU, 0, alpha, act_gain, clamp), finish};
    if (batch * channels * out_h * out_w == 0) return 0;
    if (type == FLOAT32) return by_factors<float>(a, stream);
    if (type == FLOAT64) return general<double>(a, stream);
#if defined(WPLUS_HALVES)
    if (type == FLOAT16) return by_factors<__half>(a, stream);
    if (type == BFLOAT16) return by_factors<__nv_bfloat16>(a, stream);
#endif
    return NO_KERNEL;
}

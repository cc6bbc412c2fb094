// Zero-insert, pad or crop, filter, decimate (Karras et al., arXiv 1912.04958 and 2106.12423), as one sum an output:
//     y(v, u) = sum over (j, i) of f(j, i) * X(v * down_y + j - pad_top, u * down_x + i - pad_left),
// X being the zero-inserted picture: X(q, p) = x(q / up_y, p / up_x) where both divide, and 0 elsewhere.
//
// Two ways.  `Run`: filters up to 4x4, factors (1, 1), (2, 1), (1, 2).  A thread owns a few numbers beside each other
// (columns in NCHW, channels of one column in channels_last) and goes down the picture: every row of input is read once,
// filtered across, and added to the up to four rows of output that it reaches, whose sums stay in registers.  A filter
// that is an outer product takes 8 multiplications an output instead of 16.  Behind the sum can follow what follows it in
// a StyleGAN2 block: demodulation, noise, bias, leaky ReLU, clamp.  `General`: whatever is left, one output a thread.
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
    int32_t shift_x, shift_y;  // by which outputs begin early, so that the first lies on a pixel that was not inserted
    int32_t rows;  // of output a thread makes
    int64_t strips, lanes;  // of so many rows a picture is high; threads beside each other that a picture is wide
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

// The filter, and its rows and columns if it is an outer product.
template <class A> struct alignas(16) Filter {
    A at[TAPS][TAPS], row[TAPS], column[TAPS];
    int32_t outer;

    // Some of row j.  Read anew each time: as registers they would keep threads of any filter few.
    template <int COUNT> WPLUS_INLINE void taps(int j, int first, int step, A (&to)[COUNT]) const {
        WPLUS_UNROLL
        for (int i = 0; i < COUNT; ++i) to[i] = *const_cast<const volatile A*>(&at[j][first + i * step]);
    }

    WPLUS_INLINE void read(const Resample& a) {
        A t[TAPS][TAPS], most = 0;
        WPLUS_UNROLL
        for (int j = 0; j < TAPS; ++j)
            WPLUS_UNROLL
            for (int i = 0; i < TAPS; ++i) at[j][i] = t[j][i] = tap<A>(a, j, i);
        int pj = 0, pi = 0;
        WPLUS_UNROLL
        for (int j = 0; j < TAPS; ++j)
            WPLUS_UNROLL
            for (int i = 0; i < TAPS; ++i) {
                const A size = t[j][i] < 0 ? -t[j][i] : t[j][i];
                if (size > most) most = size, pj = j, pi = i;
            }
        outer = most > 0;
        const A over = most > 0 ? A(1) / at[pj][pi] : A(0);
        for (int k = 0; k < TAPS; ++k) row[k] = at[pj][k], column[k] = at[k][pi] * over;
        for (int j = 0; j < TAPS; ++j)
            for (int i = 0; i < TAPS; ++i) {
                const A off = at[j][i] - column[j] * row[i];
                if ((off < 0 ? -off : off) > most * A(1e-6)) outer = 0;
            }
    }
};

// Going down.  A step takes DOWN rows of input and ends UP rows of output; PENDING more have begun by then.  Row m of a
// step meets the k-th of the outputs that are under way with tap `tap(k, m)`.
template <int UP, int DOWN> struct Down {
    static constexpr int PENDING = UP == 2 ? 2 : DOWN == 2 ? 1 : 3, LEAD = PENDING + UP - 1;
    WPLUS_INLINE static constexpr int tap(int k, int m) { return DOWN * (PENDING - k) + m + UP - 1; }
};

// Bit i: whether 0 <= from + i < size.
template <int COUNT> WPLUS_INLINE unsigned within(int from, int size) {
    unsigned found = 0;
    WPLUS_UNROLL
    for (int i = 0; i < COUNT; ++i) found |= unsigned(from + i >= 0 && from + i < size) << i;
    return found;
}

// Lane: where a thread stands.  It reads rows, filters one across, and writes a row of results, each time a row further
// down.  Rows are read AHEAD steps before they are needed, so that a thread does not wait for its memory.
template <bool OUTER, class Lane> WPLUS_INLINE void go_down(const Resample& a, Lane& lane, int top, int v) {
    using A = typename Lane::A;
    using D = Down<Lane::UP, Lane::DOWN>;
    constexpr int UP = Lane::UP, DOWN = Lane::DOWN, WIDE = Lane::WIDE, AHEAD = Lane::AHEAD;
    constexpr int STEPS = UP == 2 ? 4 : DOWN == 2 ? 2 : 3;  // then all is back in its registers
    static_assert(STEPS % AHEAD == 0, "what was read ahead, too");
    const int low = v < 0 ? -v : 0, left = int(a.out_h) - v, high = a.rows < left ? a.rows : left;
    const int steps = (high + D::LEAD + UP - 1) / UP, bottom = top + steps * DOWN;
    const int end = bottom < a.in_h ? bottom : int(a.in_h);
    lane.begin(a, top, v - D::LEAD);
    typename Lane::Row rows[AHEAD * DOWN];
    WPLUS_UNROLL
    for (int r = 0; r < AHEAD * DOWN; ++r) lane.read(a, top + r >= 0 && top + r < end, rows[r]);
    int line = top + AHEAD * DOWN;
    A sums[D::PENDING + UP][WIDE] = {};
    float noise[UP][Lane::PIXELS] = {};
    for (int step = 0; step < steps; step += STEPS) {
        WPLUS_UNROLL
        for (int s = 0; s < STEPS; ++s) {
            const int first = (step + s) * UP - D::LEAD - low, count = high - low;  // of this step's outputs
            if constexpr (Lane::FINISH) {
                WPLUS_UNROLL
                for (int k = 0; k < UP; ++k) lane.read_noise(a, unsigned(first + k) < unsigned(count), k, noise[k]);
            }
            WPLUS_UNROLL
            for (int m = 0; m < DOWN; ++m) {
                A in[Lane::NEED][Lane::DEEP], across[WIDE];
                lane.widened(rows[s % AHEAD * DOWN + m], in);
                lane.read(a, line >= 0 && line < end, rows[s % AHEAD * DOWN + m]);
                ++line;
                if constexpr (OUTER) lane.across(in, across);
                WPLUS_UNROLL
                for (int k = 0; k < D::PENDING + UP; ++k) {
                    const int j = D::tap(k, m);
                    if (j < 0 || j >= TAPS) continue;
                    if constexpr (!OUTER) lane.across(j, in, across);
                    WPLUS_UNROLL
                    for (int c = 0; c < WIDE; ++c) {
                        const A more = OUTER ? lane.column[j] * across[c] : across[c];
                        sums[k][c] = k >= D::PENDING && m == 0 ? more : sums[k][c] + more;
                    }
                }
            }
            WPLUS_UNROLL
            for (int k = 0; k < UP; ++k) lane.write(a, unsigned(first + k) < unsigned(count), sums[k], noise[k]);
            WPLUS_UNROLL
            for (int k = 0; k < D::PENDING; ++k)
                WPLUS_UNROLL
                for (int c = 0; c < WIDE; ++c) sums[k][c] = sums[k + UP][c];
        }
    }
}

// ---- NCHW

// Four columns, written at once, or two, each on its own.
template <class T, int UP_, int DOWN_, int COLUMNS, bool FINISH_> struct Columns {
    using A = typename Wide<T>::type;
    static constexpr int UP = UP_, DOWN = DOWN_, WIDE = COLUMNS, PIXELS = COLUMNS, DEEP = 1;
    static constexpr bool FINISH = FINISH_;
    static constexpr int AHEAD = UP == 2 ? 4 : DOWN == 2 || FINISH ? 1 : 3;
    static constexpr int BLOCKS = FINISH ? 6 : 0;  // as measured
    static constexpr int NEED = ((COLUMNS - 1) * DOWN + TAPS - 1) / UP + 1;
    struct Row { T at[NEED]; };

    const Filter<A>& filter;
    A row[TAPS], column[TAPS];
    const T* x;
    T* y;
    const float* noise;
    unsigned there, mine;  // bits: which of the NEED columns from x on, and of those from y on, the picture has
    float scale, b;

    WPLUS_INLINE Columns(const Resample& a, const Filter<A>& f, int64_t plane, int lane) : filter(f) {
        WPLUS_UNROLL
        for (int i = 0; i < TAPS; ++i) row[i] = f.row[i], column[i] = f.column[i];
        const int u = lane * COLUMNS - a.shift_x;
        const int from = (u * DOWN - a.pad_left) / UP;  // a multiple of UP, by the choice of the shift
        there = within<NEED>(from, int(a.in_w));
        mine = within<COLUMNS>(u, int(a.out_w));
        x = static_cast<const T*>(a.x) + plane * a.in_h * a.in_w + from;
        y = static_cast<T*>(a.y) + plane * a.out_h * a.out_w + u;
        if constexpr (FINISH) {
            const int64_t image = quotient(plane, a.by_c), channel = plane - image * a.channels;
            const Epilogue& e = a.epilogue;
            scale = e.scale ? e.scale[plane] : 1.f;
            b = e.b ? e.b[channel] : 0.f;
            noise = e.noise ? e.noise + image * e.noise_step + u : nullptr;
        }
    }

    WPLUS_INLINE void begin(const Resample& a, int line, int v) {
        x += int64_t{line} * a.in_w;
        y += int64_t{v} * a.out_w;
        if (FINISH && a.epilogue.noise) noise += int64_t{v} * a.out_w;
    }

    WPLUS_INLINE void read(const Resample& a, bool wanted, Row& to) {
        const unsigned some = wanted ? there : 0;
        WPLUS_UNROLL
        for (int i = 0; i < NEED; ++i) to.at[i] = some >> i & 1 ? x[i] : T(0.f);
        x += a.in_w;
    }

    WPLUS_INLINE void widened(const Row& read, A (&in)[NEED][DEEP]) const {
        WPLUS_UNROLL
        for (int i = 0; i < NEED; ++i) in[i][0] = A(widen(read.at[i]));
    }

    WPLUS_INLINE void across(const A (&in)[NEED][DEEP], A (&out)[WIDE]) const { across(row, in, out); }
    WPLUS_INLINE void across(int j, const A (&in)[NEED][DEEP], A (&out)[WIDE]) const {
        A taps[TAPS];
        filter.template taps<TAPS>(j, 0, 1, taps);
        across(taps, in, out);
    }

    WPLUS_INLINE static void across(const A (&taps)[TAPS], const A (&in)[NEED][DEEP], A (&out)[WIDE]) {
        WPLUS_UNROLL
        for (int c = 0; c < COLUMNS; ++c) {
            out[c] = 0;
            WPLUS_UNROLL
            for (int i = 0; i < TAPS; ++i)
                if ((c * DOWN + i) % UP == 0) out[c] += taps[i] * in[(c * DOWN + i) / UP][0];
        }
    }

    // Of the k-th row from here on.
    WPLUS_INLINE void read_noise(const Resample& a, bool wanted, int k, float (&to)[PIXELS]) const {
        if (!wanted || !a.epilogue.noise) return;
        const float* at = noise + k * a.out_w;
        if constexpr (COLUMNS == 4) {
            fetch<4>(at, 0.f, to);
        } else {
            WPLUS_UNROLL
            for (int c = 0; c < COLUMNS; ++c)
                if (mine >> c & 1) to[c] = at[c];
        }
    }

    WPLUS_INLINE void write(const Resample& a, bool wanted, const A (&sums)[WIDE], const float (&more)[PIXELS]) {
        if (wanted) {
            Pack<T, COLUMNS> out;
            WPLUS_UNROLL
            for (int c = 0; c < COLUMNS; ++c)
                out.at[c] = narrow<T>(FINISH ? rectified(a.epilogue.f, sums[c] * scale + (more[c] + b)) : sums[c]);
            if constexpr (COLUMNS == 4) {
                put(y, out);
            } else {
                WPLUS_UNROLL
                for (int c = 0; c < COLUMNS; ++c)
                    if (mine >> c & 1) y[c] = out.at[c];
            }
        }
        y += a.out_w;
        if (FINISH) noise += a.out_w;
    }
};

// ---- channels_last

// N channels of one column.
template <class T, int UP_, int DOWN_, int N, bool FINISH_> struct Channels {
    using A = typename Wide<T>::type;
    static constexpr int UP = UP_, DOWN = DOWN_, WIDE = N, PIXELS = 1, DEEP = N, NEED = TAPS / UP;
    static constexpr bool FINISH = FINISH_;
    static constexpr int AHEAD = UP == 2 ? 2 : DOWN == 2 || FINISH || sizeof(T) == 4 ? 1 : 3;
    static constexpr int BLOCKS = sizeof(T) == 4 && DOWN == 1 && !FINISH ? 5 : UP == 2 ? 8 : 4;  // as measured
    using Held = Words<T, N>;
    struct Row { Held at[NEED]; };

    const Filter<A>& filter;
    A row[NEED], column[TAPS];
    const T* x;
    T* y;
    const float* noise;
    int64_t line, out_line;  // numbers in a row
    int skip;  // inserted columns before the first that counts
    unsigned there;
    float scale[N], b[N];

    WPLUS_INLINE Channels(const Resample& a, const Filter<A>& f, int64_t image, int lane) : filter(f) {
        const int u = int(quotient(lane, a.by_c)), channel = (lane - u * int(a.by_c.d)) * N, first = u * DOWN - a.pad_left;
        skip = UP == 1 ? 0 : first & 1;
        WPLUS_UNROLL
        for (int i = 0; i < NEED; ++i) row[i] = f.row[UP * i + skip];
        WPLUS_UNROLL
        for (int j = 0; j < TAPS; ++j) column[j] = f.column[j];
        const int from = (first + skip) / UP;
        there = within<NEED>(from, int(a.in_w));
        line = a.in_w * a.channels;
        out_line = a.out_w * a.channels;
        x = static_cast<const T*>(a.x) + image * a.in_h * line + int64_t{from} * a.channels + channel;
        y = static_cast<T*>(a.y) + image * a.out_h * out_line + int64_t{u} * a.channels + channel;
        if constexpr (FINISH) {
            const Epilogue& e = a.epilogue;
            fetch<N>(e.scale ? e.scale + image * a.channels + channel : nullptr, 1.f, scale);
            fetch<N>(e.b ? e.b + channel : nullptr, 0.f, b);
            noise = e.noise ? e.noise + image * e.noise_step + u : nullptr;
        }
    }

    WPLUS_INLINE void begin(const Resample& a, int from_line, int v) {
        x += from_line * line;
        y += v * out_line;
        if (FINISH && a.epilogue.noise) noise += int64_t{v} * a.out_w;
    }

    WPLUS_INLINE void read(const Resample& a, bool wanted, Row& to) {
        const unsigned some = wanted ? there : 0;
        WPLUS_UNROLL
        for (int i = 0; i < NEED; ++i) {
            to.at[i] = Held{};
            if (some >> i & 1) to.at[i] = Held::read(x + i * a.channels);
        }
        x += line;
    }

    WPLUS_INLINE void widened(const Row& read, A (&in)[NEED][DEEP]) const {
        WPLUS_UNROLL
        for (int i = 0; i < NEED; ++i) read.at[i].widened(in[i]);
    }

    WPLUS_INLINE void across(const A (&in)[NEED][DEEP], A (&out)[WIDE]) const { across(row, in, out); }

    WPLUS_INLINE void across(int j, const A (&in)[NEED][DEEP], A (&out)[WIDE]) const {
        A taps[NEED];
        filter.template taps<NEED>(j, skip, UP, taps);
        across(taps, in, out);
    }

    WPLUS_INLINE static void across(const A (&taps)[NEED], const A (&in)[NEED][DEEP], A (&out)[WIDE]) {
        WPLUS_UNROLL
        for (int k = 0; k < N; ++k) {
            out[k] = taps[0] * in[0][k];
            WPLUS_UNROLL
            for (int i = 1; i < NEED; ++i) out[k] += taps[i] * in[i][k];
        }
    }

    WPLUS_INLINE void read_noise(const Resample& a, bool wanted, int k, float (&to)[PIXELS]) const {
        if (wanted && a.epilogue.noise) to[0] = noise[k * a.out_w];
    }

    WPLUS_INLINE void write(const Resample& a, bool wanted, const A (&sums)[WIDE], const float (&more)[PIXELS]) {
        if (wanted) {
            Pack<T, N> out;
            WPLUS_UNROLL
            for (int k = 0; k < N; ++k)
                out.at[k] = narrow<T>(FINISH ? rectified(a.epilogue.f, sums[k] * scale[k] + (more[0] + b[k])) : sums[k]);
            put(y, out);
        }
        y += out_line;
        if (FINISH) noise += a.out_w;
    }
};

template <class Lane> struct Run {
    using Arguments = Resample;
    using A = typename Lane::A;
    using Shared = Filter<A>;
    static constexpr int THREADS = 128, PHASES = 2, BLOCKS = Lane::BLOCKS;

    template <int PHASE> WPLUS_INLINE static void run(const Arguments& a, int64_t block, int thread, void* memory) {
        Shared& filter = *static_cast<Shared*>(memory);
        if constexpr (PHASE == 0) {
            if (thread == 0) filter.read(a);
        } else {
            // index = (image or plane * strips + strip) * lanes + lane
            const int64_t index = block * THREADS + thread, q = quotient(index, a.by_a), plane = quotient(q, a.by_b);
            if (plane >= a.batch) return;
            Lane lane(a, filter, plane, int(index - q * a.lanes));
            const int v = int(q - plane * a.strips) * a.rows - a.shift_y, top = (v * Lane::DOWN - a.pad_top) / Lane::UP;
            if (filter.outer) go_down<true>(a, lane, top, v);
            else go_down<false>(a, lane, top, v);
        }
    }
};

// ---- anything

template <class T> struct General {
    using Arguments = Resample;
    using A = typename Wide<T>::type;
    static constexpr int THREADS = 256, PHASES = 1, BLOCKS = 0;

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

constexpr int64_t ENOUGH = 1 << 18;  // threads that keep a large GPU busy

// lanes: threads beside each other in a picture; wide: what by_c divides by.
template <class Lane> int32_t run(Resample a, int64_t lanes, int64_t planes, int64_t by_c, void* stream) {
    using Kernel = Run<Lane>;
    a.shift_y = ((-a.pad_top) % Lane::UP + Lane::UP) % Lane::UP;
    a.lanes = lanes;
    for (a.rows = 32; a.rows > 8 && planes * lanes * ceil_div(a.out_h, a.rows) < ENOUGH;) a.rows /= 2;
    a.strips = ceil_div(a.out_h + a.shift_y, a.rows);
    const int64_t count = planes * lanes * a.strips;
    a.by_a = divider(lanes, count + Kernel::THREADS);
    a.by_b = divider(a.strips, count + Kernel::THREADS);
    a.by_c = divider(by_c, lanes > planes ? lanes : planes);
    a.batch = planes;
    return launch<Kernel>(a, ceil_div(count, Kernel::THREADS), sizeof(typename Kernel::Shared), stream);
}

template <class T, int UP, int DOWN, bool FINISH> int32_t by_order(Resample a, void* stream) {
    if (a.channels_last) {
        constexpr int N = (UP == 2 && sizeof(T) == 2 ? 8 : 16) / sizeof(T);
        const bool packs = a.channels % N == 0 && aligned(a.x, 16) && aligned(a.y, 16) && aligned(a.epilogue.scale, 16)
                           && aligned(a.epilogue.b, 16);
        const int64_t along = a.channels / (packs ? N : 1), lanes = a.out_w * along;
        if (packs) return run<Channels<T, UP, DOWN, N, FINISH>>(a, lanes, a.batch, along, stream);
        return run<Channels<T, UP, DOWN, 1, FINISH>>(a, lanes, a.batch, along, stream);
    }
    const int64_t planes = a.batch * a.channels;
    a.shift_x = ((-a.pad_left) % UP + UP) % UP;
    const bool packs = a.shift_x == 0 && a.out_w % 4 == 0 && aligned(a.y, 4 * sizeof(T)) && aligned(a.epilogue.noise, 16);
    if (packs) return run<Columns<T, UP, DOWN, 4, FINISH>>(a, a.out_w / 4, planes, a.channels, stream);
    return run<Columns<T, UP, DOWN, 2, FINISH>>(a, ceil_div(a.out_w + a.shift_x, 2), planes, a.channels, stream);
}

template <class T> int32_t by_factors(const Resample& a, void* stream) {
    if (a.taps_x * a.taps_y == 1 && !a.epilogue.wanted) return general<T>(a, stream);  // nothing to share
    const bool small = a.taps_x <= TAPS && a.taps_y <= TAPS && a.in_h < (1 << 24) && a.in_w < (1 << 24);
    const bool alike = a.up_x == a.up_y && a.down_x == a.down_y;
    if (small && alike && a.up_x == 1 && a.down_x == 1)
        return a.epilogue.wanted ? by_order<T, 1, 1, true>(a, stream) : by_order<T, 1, 1, false>(a, stream);
    if (small && alike && a.up_x == 2 && a.down_x == 1 && !a.epilogue.wanted) return by_order<T, 2, 1, false>(a, stream);
    if (small && alike && a.up_x == 1 && a.down_x == 2 && !a.epilogue.wanted) return by_order<T, 1, 2, false>(a, stream);
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

// Matrix products on the warpgroup matrix units of Hopper (wgmma): convolutions without unrolled patches, channels last,
// their gradients, and the products of attention.
//
// Compiled with what `common.cu` says in front, and:
//   RESULT             VALUE or float: what the results are
//   ROWS, COLUMNS      results of a block, down (64 or 128) and across (64 or 128)
//   TAPS_WITHIN        1: the depth goes through the taps first, 32 channels at a time, which keeps what is read close
//                      together; 0: channel after channel, for any number of them
//   LEFT_ALONG         1 if the depth of the left factor lies in order (channels around a pixel), 0 if its rows do
//   RIGHT_ALONG        the same of the right factor: its depth, or its columns
//
//   LEFT_ALONG RIGHT_ALONG   left                    right                     used for
//   1          1             around pixels           rows                      convolutions, q k^T
//   1          0             around pixels           columns                   gradients of inputs, weights v
//   0          0             pixels                  around pixels             gradients of weights, weights^T dy
//
// A block is one warpgroup. Three slices of both factors lie in shared memory: while one is multiplied, two are on
// their way by cp.async. Blocks are small (48 KiB at most, as much as a kernel may have that CubeCL did not write), so
// that three share a multiprocessor and hide each other's waits. Measured on an H100: blocks of two warpgroups and 256
// rows are a third slower, and reading by way of the multiprocessor's own cache (cp.async.ca) gains nothing.

#define THREADS 128
#define STAGES 3
#define DEPTH 32
#define A_BYTES (ROWS * DEPTH * 2)
#define B_BYTES (COLUMNS * DEPTH * 2)
#define STAGE_BYTES (A_BYTES + B_BYTES)
#define HALVES (ROWS / 64)

// A tensor: values from one pixel or row to the next, and where the one of an image and a head begins.
struct Operand {
    u32 pitch, start, image, head;
};

// As in hopper/mod.rs.
struct Sizes {
    u32 m, n, depth, part;                // results down and across; depth, and that of one part of it
    Operand left, right, out;
    u32 heads;                            // of each image
    u32 columns;                          // blocks across
    u32 channels, height, width;          // of the images that are read around a pixel
    u32 out_width, out_pixels;            // of the images whose pixels are the rows of the result, or the depth
    u32 kernel_width, taps;
    int stride, padding, sign;            // row that is read = stride * row - padding + sign * tap
    u32 bias_rows, residual;              // 0: none
    u32 width_multiplier, width_shift;    // to divide by out_width
    u32 pixels_multiplier, pixels_shift;  // to divide by out_pixels
};

__device__ __forceinline__ u32 divide(u32 x, u32 multiplier, u32 shift) {
    return multiplier == 0 ? x : __umulhi(x, multiplier) >> shift;
}

__device__ __forceinline__ i64 begin_of(const Operand& operand, u32 image, u32 head) {
    return (i64)operand.start + (i64)image * operand.image + (i64)head * operand.head;
}

// d (64 x COLUMNS, f32) += a (64 x 16) * b (16 x COLUMNS)
__device__ __forceinline__ void multiply(float (&d)[COLUMNS / 2], u64 a, u64 b) {
#if COLUMNS == 128
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." WGMMA_TYPE "." WGMMA_TYPE " "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, 1, 1, 1, %66, %67;"
        : R8(0), R8(8), R8(16), R8(24), R8(32), R8(40), R8(48), R8(56)
        : "l"(a), "l"(b), "n"(!LEFT_ALONG), "n"(!RIGHT_ALONG));
#else
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." WGMMA_TYPE "." WGMMA_TYPE " "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, 1, 1, 1, %34, %35;"
        : R8(0), R8(8), R8(16), R8(24)
        : "l"(a), "l"(b), "n"(!LEFT_ALONG), "n"(!RIGHT_ALONG));
#endif
}

// A slice of a factor whose depth lies in order: 64 bytes a row, whose four chunks of 16 bytes are exchanged by half
// the row's number (swizzle of 64 bytes). A thread brings one chunk of every PASS-th row.
struct Along {
    static const u32 PASS = THREADS / 4;
    static __device__ __forceinline__ u32 row() { return threadIdx.x / 4; }
    static __device__ __forceinline__ u32 chunk() { return threadIdx.x % 4; }
    static __device__ __forceinline__ u32 place() { return row() * 64 + ((chunk() ^ ((row() / 2) % 4)) * 16); }
    static __device__ __forceinline__ u64 factor(u32 slice, u32 half, u32 step) {
        return descriptor(slice + half * 4096 + step * 32, 16, 512, 2);
    }
};

// A slice of a factor whose rows (or columns) lie in order: 64 of them (128 bytes) for each place of the depth, then
// the next 64; the eight chunks of 16 bytes are exchanged by the place in the depth (swizzle of 128 bytes).
struct Across {
    static const u32 PASS = THREADS / 16;
    static __device__ __forceinline__ u32 deep() { return threadIdx.x / 16; }
    static __device__ __forceinline__ u32 chunk() { return threadIdx.x % 16; }
    static __device__ __forceinline__ u32 place() {
        return (chunk() / 8) * (DEPTH * 128) + deep() * 128 + (((chunk() % 8) ^ deep()) * 16);
    }
    static __device__ __forceinline__ u64 factor(u32 slice, u32 half, u32 step) {
        return descriptor(slice + half * (DEPTH * 128) + step * 2048, DEPTH * 128, 1024, 1);
    }
};

// Where in the depth, the channels of the taps around a pixel, a slice begins, and the chunk of a thread lies.
struct Deep {
    u32 tap, u, v, channel; // of the chunk, as Along brings it
    u32 first;              // of the slice: its first channel, or its first place where taps do not come first

    __device__ Deep(const Sizes& s) : tap(0), u(0), v(0), channel(Along::chunk() * 8), first(0) { settle(s); }

    __device__ __forceinline__ void next_tap(const Sizes& s) {
        tap++;
        v++;
        if (v == s.kernel_width) {
            v = 0;
            u++;
        }
    }

    __device__ __forceinline__ void settle(const Sizes& s) {
        while (!TAPS_WITHIN && channel >= s.channels && tap < s.taps) {
            channel -= s.channels;
            next_tap(s);
        }
    }

    __device__ __forceinline__ void advance(const Sizes& s) {
        if (TAPS_WITHIN) {
            next_tap(s);
            if (tap < s.taps) return;
            tap = u = v = 0;
        }
        channel += DEPTH;
        first += DEPTH;
        settle(s);
    }

    // Whether there is such a chunk; slices of whole channels have no others.
    __device__ __forceinline__ bool there(const Sizes& s) const { return TAPS_WITHIN || tap < s.taps; }
};

// Rows of the result are pixels.
struct AroundAlong {
    const VALUE* x;
    int from[ROWS / Along::PASS];
    u32 inside[ROWS / Along::PASS]; // a bit a tap

    __device__ AroundAlong(const VALUE* images, const Sizes& s, u32 first_m, u32, u32) : x(images) {
#pragma unroll
        for (u32 i = 0; i < ROWS / Along::PASS; i++) {
            const u32 p = first_m + Along::row() + Along::PASS * i;
            const bool is = p < s.m;
            const u32 q = divide(p, s.width_multiplier, s.width_shift);
            const u32 image = divide(p, s.pixels_multiplier, s.pixels_shift);
            const u32 row = q - divide(image * s.out_pixels, s.width_multiplier, s.width_shift);
            const int x0 = (int)(p - q * s.out_width) * s.stride - s.padding;
            const int y0 = (int)row * s.stride - s.padding;
            u32 bits = 0;
            for (u32 k = 0; k < s.taps; k++) {
                const int yy = y0 + s.sign * (int)(k / s.kernel_width), xx = x0 + s.sign * (int)(k % s.kernel_width);
                bits |= (u32)(is && (u32)yy < s.height && (u32)xx < s.width) << k;
            }
            inside[i] = bits;
            from[i] = (((int)(image * s.height) + y0) * (int)s.width + x0) * (int)s.left.pitch;
        }
    }

    __device__ __forceinline__ void slice(u32 to, const Deep& deep, const Sizes& s) {
        to += Along::place();
        const int offset = s.sign * (int)((deep.u * s.width + deep.v) * s.left.pitch) + (int)deep.channel;
        const bool there = deep.there(s);
#pragma unroll
        for (u32 i = 0; i < ROWS / Along::PASS; i++) BRING(to + i * (Along::PASS * 64), x + (from[i] + offset), there && ((inside[i] >> deep.tap) & 1));
    }
};

// Columns of the result are rows, whose values lie in order of depth.
struct RowsAlong {
    const VALUE* from;
    u32 rows; // how many of those PASS apart there are

    __device__ RowsAlong(const VALUE* w, const Sizes& s, u32 first_n, u32, u32) {
        const u32 n = first_n + Along::row();
        rows = n < s.n ? (s.n - n + Along::PASS - 1) / Along::PASS : 0;
        from = w + n * s.right.pitch;
    }

    __device__ __forceinline__ void slice(u32 to, const Deep& deep, const Sizes& s) {
        to += Along::place();
        const VALUE* here = from + deep.tap * s.channels + deep.channel;
        const u32 there = deep.there(s) ? rows : 0;
#pragma unroll
        for (u32 i = 0; i < COLUMNS / Along::PASS; i++)
            BRING(to + i * (Along::PASS * 64), here + i * Along::PASS * s.right.pitch, i < there);
    }
};

// The depth is pixels, rows of the result are their channels.
struct PixelsAcross {
    const VALUE* from;
    u32 deep, last;
    bool is;

    __device__ PixelsAcross(const VALUE* x, const Sizes& s, u32 first_m, u32 begin, u32 stop)
        : deep(begin + Across::deep()), last(stop) {
        const u32 m = first_m + Across::chunk() * 8;
        is = Across::chunk() * 8 < ROWS && m < s.m;
        from = x + m;
    }

    __device__ __forceinline__ void slice(u32 to, const Deep&, const Sizes& s) {
        to += Across::place();
        if (ROWS == 128 || Across::chunk() < 8) {
#pragma unroll
            for (u32 i = 0; i < DEPTH / Across::PASS; i++) {
                const u32 p = deep + Across::PASS * i;
                BRING(to + i * (Across::PASS * 128), from + p * s.left.pitch, is && p < last);
            }
        }
        deep += DEPTH;
    }
};

// Columns of the result lie in order: a row of them for each tap of each channel of the depth.
struct ColumnsAcross {
    const VALUE* from;
    bool is;

    __device__ ColumnsAcross(const VALUE* w, const Sizes& s, u32 first_n, u32, u32) {
        const u32 n = first_n + Across::chunk() * 8;
        is = Across::chunk() * 8 < COLUMNS && n < s.n;
        from = w + n + (TAPS_WITHIN ? Across::deep() * s.right.pitch : 0);
    }

    __device__ __forceinline__ void slice(u32 to, const Deep& deep, const Sizes& s) {
        to += Across::place();
        if (COLUMNS == 128 || Across::chunk() < 8) {
            const VALUE* here = from + (deep.first * s.right.pitch + deep.tap * s.n);
#pragma unroll
            for (u32 i = 0; i < DEPTH / Across::PASS; i++) {
                const u32 at = to + i * (Across::PASS * 128);
                if (TAPS_WITHIN) {
                    BRING(at, here + i * (Across::PASS * s.right.pitch), is);
                } else {
                    const u32 k = deep.first + Across::deep() + Across::PASS * i;
                    const u32 tap = k / s.channels;
                    BRING(at, from + (k - tap * s.channels) * s.right.pitch + tap * s.n, is && tap < s.taps);
                }
            }
        }
    }
};

// The depth is pixels, columns of the result are the channels of the taps around them.
struct AroundAcross {
    const VALUE* from;
    u32 deep, last;
    int y0, x0;
    bool is;

    __device__ AroundAcross(const VALUE* x, const Sizes& s, u32 first_n, u32 begin, u32 stop)
        : deep(begin + Across::deep()), last(stop) {
        const u32 n = first_n + Across::chunk() * 8;
        is = Across::chunk() * 8 < COLUMNS && n < s.n;
        const u32 tap = is ? n / s.channels : 0;
        from = x + (is ? n % s.channels : 0);
        y0 = (int)(tap / s.kernel_width) - s.padding;
        x0 = (int)(tap % s.kernel_width) - s.padding;
    }

    __device__ __forceinline__ void slice(u32 to, const Deep&, const Sizes& s) {
        to += Across::place();
#pragma unroll
        for (u32 i = 0; i < DEPTH / Across::PASS; i++) {
            const u32 p = deep + Across::PASS * i;
            const u32 q = divide(p, s.width_multiplier, s.width_shift);
            const u32 image = divide(p, s.pixels_multiplier, s.pixels_shift);
            const u32 row = q - divide(image * s.out_pixels, s.width_multiplier, s.width_shift);
            const int xx = (int)(p - q * s.out_width) * s.stride + x0;
            const int yy = (int)row * s.stride + y0;
            const bool inside = is && p < last && (u32)xx < s.width && (u32)yy < s.height;
            if (COLUMNS == 128 || Across::chunk() < 8)
                BRING(to + i * (Across::PASS * 128), from + (int)((((int)(image * s.height) + yy) * (int)s.width + xx) * (int)s.right.pitch), inside);
        }
        deep += DEPTH;
    }
};

#if LEFT_ALONG
typedef Along LeftLies;
typedef AroundAlong Left;
#else
typedef Across LeftLies;
typedef PixelsAcross Left;
#endif
#if RIGHT_ALONG
typedef Along RightLies;
typedef RowsAlong Right;
#elif LEFT_ALONG
typedef Across RightLies;
typedef ColumnsAcross Right;
#else
typedef Across RightLies;
typedef AroundAcross Right;
#endif

// Eight results in order, with what is added to them.
__device__ __forceinline__ void store(const float* values, float* out, u64 to, const float*, const VALUE*, u32, u32, const Sizes&) {
    *(float4*)(out + to) = *(const float4*)values;
    *(float4*)(out + to + 4) = *(const float4*)(values + 4);
}

__device__ __forceinline__ void store(
    const float* values, VALUE* out, u64 to, const float* bias, const VALUE* residual, u32 m, u32 n, const Sizes& s) {
    const float4 low = *(const float4*)values, high = *(const float4*)(values + 4);
    float v[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    if (s.bias_rows != 0) {
        const u32 image = s.bias_rows == 1 ? 0 : divide(m, s.pixels_multiplier, s.pixels_shift);
        const float4* added = (const float4*)(bias + (u64)image * s.n + n);
        const float4 p = __ldg(added), q = __ldg(added + 1);
        v[0] += p.x, v[1] += p.y, v[2] += p.z, v[3] += p.w;
        v[4] += q.x, v[5] += q.y, v[6] += q.z, v[7] += q.w;
    }
    if (s.residual) {
        const uint4 packed = __ldg((const uint4*)(residual + to));
        const VALUE* more = (const VALUE*)&packed;
#pragma unroll
        for (u32 c = 0; c < 8; c++) v[c] += (float)more[c];
    }
    uint4 packed;
    VALUE* rounded = (VALUE*)&packed;
#pragma unroll
    for (u32 c = 0; c < 8; c++) rounded[c] = (VALUE)v[c];
    *(uint4*)(out + to) = packed;
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) hopper_product(
    const VALUE* __restrict__ a, const VALUE* __restrict__ b, RESULT* __restrict__ out, const float* __restrict__ bias,
    const VALUE* __restrict__ residual, const __grid_constant__ Sizes s) {
    __shared__ __align__(1024) unsigned char memory[STAGES * STAGE_BYTES];
    const u32 base = (u32)__cvta_generic_to_shared(memory);
    const u32 first_n = (blockIdx.x % s.columns) * COLUMNS;
    const u32 first_m = (blockIdx.x / s.columns) * ROWS;
    // Either an image's head, or a part of the depth.
    const u32 image = blockIdx.z / s.heads, head = blockIdx.z % s.heads;
    const u32 begin = blockIdx.y * s.part;
    const u32 end = min(begin + s.part, s.depth);
    const u32 slices = (end - begin + DEPTH - 1) / DEPTH;

    float sums[HALVES][COLUMNS / 2];
#pragma unroll
    for (u32 h = 0; h < HALVES; h++)
#pragma unroll
        for (u32 i = 0; i < COLUMNS / 2; i++) sums[h][i] = 0.0f;

    Left left(a + begin_of(s.left, image, head), s, first_m, begin, end);
    Right right(b + begin_of(s.right, image, head), s, first_n, begin, end);
    Deep deep(s);
#pragma unroll
    for (u32 i = 0; i < STAGES - 1; i++) {
        if (i < slices) {
            left.slice(base + i * STAGE_BYTES, deep, s);
            right.slice(base + i * STAGE_BYTES + A_BYTES, deep, s);
            deep.advance(s);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    u32 stage = 0, next = STAGES - 1;
    for (u32 k = 0; k < slices; k++) {
        // This slice has come, the matrix units see its bytes, and nobody multiplies any more what is brought over.
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        __syncthreads();
        const u32 slice = base + stage * STAGE_BYTES;
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (u32 step = 0; step < DEPTH / 16; step++)
#pragma unroll
            for (u32 h = 0; h < HALVES; h++)
                multiply(sums[h], LeftLies::factor(slice, h, step), RightLies::factor(slice + A_BYTES, 0, step));
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        if (k + STAGES - 1 < slices) {
            left.slice(base + next * STAGE_BYTES, deep, s);
            right.slice(base + next * STAGE_BYTES + A_BYTES, deep, s);
            deep.advance(s);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        next = next + 1 == STAGES ? 0 : next + 1;
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");

    // Results by way of shared memory, so that each thread writes some that lie in order.
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float* rows = (float*)memory;
    const u32 pitch = COLUMNS + 8;
    out += begin_of(s.out, image, head) + (i64)blockIdx.y * s.m * s.n;
#pragma unroll
    for (u32 h = 0; h < HALVES; h++) {
        __syncthreads();
#pragma unroll
        for (u32 j = 0; j < COLUMNS / 8; j++) {
#pragma unroll
            for (u32 down = 0; down < 2; down++) {
                const u32 at = (warp * 16 + lane / 4 + down * 8) * pitch + j * 8 + (lane % 4) * 2;
                *(float2*)(rows + at) = make_float2(sums[h][j * 4 + down * 2], sums[h][j * 4 + down * 2 + 1]);
            }
        }
        __syncthreads();
        const u32 vectors = COLUMNS / 8;
#pragma unroll
        for (u32 i = 0; i < 64 * vectors / THREADS; i++) {
            const u32 at = threadIdx.x + i * THREADS;
            const u32 row = at / vectors, column = (at % vectors) * 8;
            const u32 m = first_m + h * 64 + row, n = first_n + column;
            if (m < s.m && n < s.n) store(rows + row * pitch + column, out, (u64)m * s.out.pitch + n, bias, residual, m, n, s);
        }
    }
}

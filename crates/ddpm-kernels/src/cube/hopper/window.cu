// 3x3 convolutions of stride 1, channels last, on the warpgroup matrix units of Hopper (wgmma). A block's pixels lie in
// shared memory once, with a border of one pixel, for all nine taps: each tap multiplies the same bytes from another
// start. `product.cu` reads them nine times. Gradients of inputs are the same by the transposed, mirrored weight.
//
// Compiled with what `common.cu` says in front, and:
//   COLUMNS            channels of a block's result: 128, or 64 where there would be few blocks
//
// The depth is 16 channels of one tap after another. One warpgroup brings, two multiply, each for 16 x 8 pixels; barriers
// in shared memory tell what has come and what is done with. Slices of the weight, which lie in global memory as they do
// in shared memory, are brought by the copy engine (cp.async.bulk), the pixels' next 16 channels by cp.async. A block
// goes on to its next pixels, which come while it writes results.

#define THREADS 384
#define MULTIPLYING 256 // threads
#define BRINGING 96     // threads, of pixels; those before them bring the weight
#define DEPTH 16
#define TAPS 9
// Pixels of a block, down and across, and the same with their border.
#define SIDE 16
#define ACROSS (SIDE + 2)
#define PIXELS (ACROSS * ACROSS)
// Columns of a slice of the weight in global memory.
#define SLICE_COLUMNS 128
// Bytes of 8 channels of these pixels, 16 a pixel, and of two of those; bytes of a slice of the weight here.
#define PLANE (PIXELS * 16)
#define A_BYTES (2 * PLANE)
#define B_BYTES (COLUMNS * DEPTH * 2)
// Slices of the weight in shared memory.
#define STAGES 6
// Chunks of 16 bytes that a thread brings of the pixels.
#define PIECES ((2 * PIXELS + BRINGING - 1) / BRINGING)

// As in hopper/window.rs.
struct Sizes {
    u32 channels, n;       // of the depth and of the result
    u32 height, width;     // of an image
    u32 across, blocks;    // blocks across an image, and of an image
    u32 columns, count;    // blocks of channels, and of all
    u32 bias_rows;         // 0: none
    u32 residual;
};

// The columns of a slice of the weight, for one half of the depth and then the other, by the copy engine; with the last
// byte the barrier's phase ends.
__device__ __forceinline__ void copy(u32 to, const VALUE* from, u32 barrier) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "n"(B_BYTES) : "memory");
#pragma unroll
    for (u32 half = 0; half < 2; half++)
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to + half * (B_BYTES / 2)),
                     "l"(from + half * (SLICE_COLUMNS * DEPTH / 2)), "n"(B_BYTES / 2), "r"(barrier)
                     : "memory");
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
        "%64, %65, 1, 1, 1, 0, 0;"
        : R8(0), R8(8), R8(16), R8(24), R8(32), R8(40), R8(48), R8(56)
        : "l"(a), "l"(b));
#else
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." WGMMA_TYPE "." WGMMA_TYPE " "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, 1, 1, 1, 0, 0;"
        : R8(0), R8(8), R8(16), R8(24)
        : "l"(a), "l"(b));
#endif
}

// The pixels and channels of a block's n-th result.
struct Block {
    u32 image, y, x, first_n;

    __device__ Block(u32 number, const Sizes& s) {
        const u32 block = number / s.columns, within = block % s.blocks;
        first_n = number % s.columns * COLUMNS;
        image = block / s.blocks;
        y = within / s.across * SIDE;
        x = within % s.across * SIDE;
    }
};

// What a thread brings of a block's pixels: chunks of 16 bytes, those of a pixel's two halves of the depth by two threads.
struct Window {
    static const u32 APART = BRINGING / 2; // pixels
    const VALUE* x;
    int from[PIECES]; // -1: outside the image
    u32 pixel, to;

    __device__ Window(const VALUE* images, const Sizes& s, const Block& block, u32 thread) : x(images) {
        const u32 half = thread % 2;
        pixel = thread / 2;
        to = half * PLANE + pixel * 16;
#pragma unroll
        for (u32 i = 0; i < PIECES; i++) {
            const u32 yy = block.y + (pixel + i * APART) / ACROSS - 1, xx = block.x + (pixel + i * APART) % ACROSS - 1;
            const bool inside = yy < s.height && xx < s.width;
            from[i] = inside ? (int)(((block.image * s.height + yy) * s.width + xx) * s.channels + half * 8) : -1;
        }
    }

    __device__ __forceinline__ void bring(u32 window, u32 channel) const {
#pragma unroll
        for (u32 i = 0; i < PIECES; i++)
            if (i * APART + APART <= PIXELS || pixel < PIXELS - i * APART)
                BRING(window + to + i * APART * 16, x + (max(from[i], 0) + (int)channel), from[i] >= 0);
    }
};

// Two results of each of four groups of eight that lie in four lanes become all eight of one group in each lane.
__device__ __forceinline__ void gather(const float* sums, float (&v)[8]) {
    const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
    float pairs[2][4];
#pragma unroll
    for (u32 p = 0; p < 2; p++) {
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            const float low = sums[p * 8 + i], high = sums[p * 8 + 4 + i];
            const float other = __shfl_xor_sync(~0u, odd ? low : high, 1);
            pairs[p][i] = odd ? other : low;
            pairs[p][2 + i] = odd ? high : other;
        }
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const float other = __shfl_xor_sync(~0u, upper ? pairs[0][i] : pairs[1][i], 2);
        v[i] = upper ? other : pairs[0][i];
        v[4 + i] = upper ? pairs[1][i] : other;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) hopper_window(
    const VALUE* __restrict__ x, const VALUE* __restrict__ w, VALUE* __restrict__ out, const float* __restrict__ bias,
    const VALUE* __restrict__ residual, const __grid_constant__ Sizes s) {
    __shared__ __align__(128) unsigned char memory[STAGES * B_BYTES + 2 * A_BYTES];
    __shared__ __align__(8) u64 barriers[2 * STAGES + 4];
    const u32 slices = (u32)__cvta_generic_to_shared(memory), windows = slices + STAGES * B_BYTES;
    // Of each slice and then of each window: whether it has come, and whether it is done with.
    const u32 come = (u32)__cvta_generic_to_shared(barriers), done = come + STAGES * 8;
    const u32 window_come = done + STAGES * 8, window_done = window_come + 16;
    if (threadIdx.x == 0) {
        for (u32 i = 0; i < STAGES; i++) {
            expect(come + i * 8, 1);
            expect(done + i * 8, MULTIPLYING / 32);
        }
        for (u32 i = 0; i < 2; i++) {
            expect(window_come + i * 8, BRINGING);
            expect(window_done + i * 8, MULTIPLYING / 32);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();

    // Slices and windows are numbered through all results.
    u32 stage = 0, phase = 0, number = 0;
    if (threadIdx.x >= MULTIPLYING) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x >= THREADS - BRINGING) {
            for (u32 result = blockIdx.x; result < s.count; result += gridDim.x) {
                const Window window(x, s, Block(result, s), threadIdx.x - (THREADS - BRINGING));
                for (u32 channel = 0; channel < s.channels; channel += DEPTH, number++) {
                    const u32 side = number % 2;
                    wait(window_done + side * 8, number / 2 % 2 ^ 1);
                    window.bring(windows + side * A_BYTES, channel);
                    arrive_with_brought(window_come + side * 8);
                }
            }
            asm volatile("cp.async.wait_all;" ::: "memory");
        } else if (threadIdx.x == MULTIPLYING) {
            const u32 count = s.channels / DEPTH * TAPS;
            for (u32 result = blockIdx.x; result < s.count; result += gridDim.x) {
                const u32 column = result % s.columns * COLUMNS;
                const VALUE* from = w + (u64)(column / SLICE_COLUMNS) * count * (SLICE_COLUMNS * DEPTH) + column % SLICE_COLUMNS * 8;
                for (u32 k = 0; k < count; k++) {
                    wait(done + stage * 8, phase ^ 1);
                    copy(slices + stage * B_BYTES, from + k * (SLICE_COLUMNS * DEPTH), come + stage * 8);
                    stage++;
                    if (stage == STAGES) stage = 0, phase ^= 1;
                }
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        const u32 group = __shfl_sync(~0u, threadIdx.x / 128, 0);
        const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
        for (u32 result = blockIdx.x; result < s.count; result += gridDim.x) {
            float sums[2][COLUMNS / 2];
#pragma unroll
            for (u32 h = 0; h < 2; h++)
#pragma unroll
                for (u32 i = 0; i < COLUMNS / 2; i++) sums[h][i] = 0.0f;
            u32 before = STAGES; // the slice before this one: none yet
            for (u32 channel = 0; channel < s.channels; channel += DEPTH, number++) {
                const u32 side = number % 2;
                const u32 mine = windows + side * A_BYTES + group * 8 * 16;
                wait(window_come + side * 8, number / 2 % 2);
                // The matrix units see what cp.async has brought.
                asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#pragma unroll
                for (u32 tap = 0; tap < TAPS; tap++) {
                    wait(come + stage * 8, phase);
                    const u64 factor = descriptor(slices + stage * B_BYTES, B_BYTES / 2, 128);
                    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
                    for (u32 h = 0; h < 2; h++)
                        multiply(sums[h], descriptor(mine + ((8 * h + tap / 3) * ACROSS + tap % 3) * 16, PLANE, ACROSS * 16), factor);
                    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                    // The slice before this one is multiplied, and with it perhaps the last of the window before.
                    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                    if (lane == 0 && before < STAGES) arrive(done + before * 8);
                    if (lane == 0 && tap == 0 && channel > 0) arrive(window_done + (side ^ 1) * 8);
                    before = stage;
                    stage++;
                    if (stage == STAGES) stage = 0, phase ^= 1;
                }
            }
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            if (lane == 0) arrive(done + before * 8);
            if (lane == 0) arrive(window_done + (number % 2 ^ 1) * 8);

            // A thread writes eight channels of a pixel at a time.
            const Block block(result, s);
            const u32 row = block.y + warp * 2, column = block.x + group * 8 + lane / 4;
#pragma unroll
            for (u32 j = 0; j < COLUMNS / 32; j++) {
                const u32 n = block.first_n + (4 * j + lane % 4) * 8;
                float4 low = make_float4(0, 0, 0, 0), high = low;
                if (s.bias_rows != 0) {
                    const float4* added = (const float4*)(bias + (u64)(s.bias_rows == 1 ? 0 : block.image) * s.n + n);
                    low = __ldg(added), high = __ldg(added + 1);
                }
#pragma unroll
                for (u32 h = 0; h < 2; h++) {
#pragma unroll
                    for (u32 below = 0; below < 2; below++) {
                        const u64 to = (((u64)block.image * s.height + row + h * 8 + below) * s.width + column) * s.n + n;
                        float v[8];
                        gather(&sums[h][j * 16 + below * 2], v);
                        v[0] += low.x, v[1] += low.y, v[2] += low.z, v[3] += low.w;
                        v[4] += high.x, v[5] += high.y, v[6] += high.z, v[7] += high.w;
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
                }
            }
        }
    }
}

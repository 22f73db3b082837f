// What the kernels of this folder have in common; it stands in front of each.
//
// Compiled at run time with these in front:
//   VALUE              __nv_bfloat16 or __half: what the factors are
//   WGMMA_TYPE         "bf16" or "f16"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// 16 bytes from global to shared memory, or zeros, and then nothing is read.
#define BRING(to, from, is) \
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"((is) ? 16 : 0) : "memory")

// Where a factor of one instruction lies in shared memory, and in which swizzle (PTX ISA, "matrix descriptor"). Without
// one, in matrices of 8 x 16 bytes in order: they are `leading` apart in the depth and `stride` across it.
__device__ __forceinline__ u64 descriptor(u32 address, u32 leading, u32 stride, u64 swizzle = 0) {
    return (u64)((address & 0x3ffff) >> 4) | ((u64)(leading >> 4) << 16) | ((u64)(stride >> 4) << 32) | (swizzle << 62);
}

// Barriers in shared memory: `expected` arrivals end a phase.
__device__ __forceinline__ void expect(u32 barrier, u32 expected) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(expected) : "memory");
}

__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives once all that this thread has brought so far is there.
__device__ __forceinline__ void arrive_with_brought(u32 barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

// Waits until the phase of this parity is over; a barrier starts as if one of parity 1 were.
__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

// Eight registers of a result.
#define R8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

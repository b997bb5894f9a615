/* The one header of device code. A kernel is written once, in the language that C11 and C++17
 * share (casts from void *, no compound literals, no designated initialisers), and compiled
 * twice: by nvcc for GPUs and by the host compiler for the CPU build, where each thread is a
 * fiber (kernels/host/run.c). This header alone asks which of the two it is.
 *
 *     DEV void body(struct lane *t, const struct my_args *a, int width) { ... }
 *     KERNEL(my_kernel_64, 128, struct my_args, body(t, a, 64))   128 threads a block at most
 *     LAUNCHER(my) { const struct my_args *a = (const struct my_args *)args;
 *                    struct shape s = {{blocks, 1, 1}, 128, shared_bytes};
 *                    return LAUNCH(my_kernel_64, s, a); }
 *
 * `t` is the running thread; on a GPU it is NULL and nothing remains of it.
 *
 *   dev_thread dev_threads dev_lane dev_warp dev_block(t, axis) dev_blocks(t, axis): indices
 *   dev_shared(t): the block's shared memory (shape.shared_bytes), aligned to 1024; touched
 *       directly; holds not-a-numbers on the CPU until written
 *   dev_load8 .. dev_load128, dev_load_float; dev_store8 .. : the only way to device memory.
 *       Aligned to their size. dev_stream128: a load of what is read once.
 *   dev_add32(t, p, x): atomic addition in device memory; dev_shared_add(t, p, x): in shared
 *       memory; both on uint32_t, both return what was there
 *   dev_barrier(t): all threads of the block. dev_sync(t): all of the warp
 *   dev_sum(t, x, w), dev_max(t, x, w): over groups of w neighbours in a warp, as a butterfly;
 *       all get the result
 *   dev_sum_rows(t, x), dev_max_rows(t, x): over the 8 threads of a warp with the same lane % 4
 *   dev_shuffle(t, x, i, w): x of thread i of the group; dev_ballot(t, x): bit i = thread i's x
 *   dev_mma_bf16(t, c, a, b), dev_mma_fp16: c[4] += a[4] * b[2], m16n8k16, fp32 sums. With
 *       g = lane / 4, q = lane % 4, two elements a word, the lower one in the low half:
 *       a: (g, 2q) (g+8, 2q) (g, 2q+8) (g+8, 2q+8); b: (k 2q, n g) (k 2q+8, n g);
 *       c: (g, 2q) (g, 2q+1) (g+8, 2q) (g+8, 2q+1)   [PTX ISA, mma.m16n8k16]
 *   dev_ldmatrix(t, r, row), dev_ldmatrix_transposed: four 8x8 matrices of 16-bit elements from
 *       shared memory; thread 8 m + i gives row i of matrix m; r[m] gets elements 2q, 2q+1 of
 *       row g, or of column g [PTX ISA, ldmatrix]
 *   dev_transpose(t, x): an 8x8 matrix of 16-bit elements held as r[0] of a matrix load is;
 *       gives the same of the transposed one [PTX ISA, movmatrix]
 *   dev_async(t, shared, p): copies 16 bytes to shared memory; dev_async_if(t, shared, p, on),
 *       dev_async32_if: 16 or 4 bytes, zeros and nothing read where not `on`;
 *       dev_async_commit(t) closes a group; dev_async_wait(t, n), n a constant: all but the
 *       newest n have arrived, for this thread; others see them after a barrier. On the CPU
 *       they arrive at the wait, not-a-numbers before
 *   dev_tile_scores(t, x, a, b, units, fp16): x[64] = A B^T by the 4 warps of a warpgroup
 *       (sm_90a: dev_has_tiles), A of 64 rows, B of 128, dot products of 16 units elements;
 *       dev_tile_values(t, o, p, v, columns, fp16): o[columns / 2] += P V, P words p[8][4] of
 *       the threads, columns 64 or 128. Results are as those of dev_mma, n after n; words of P
 *       as its a. A tile has 128 rows and lies in shared memory, aligned to 1024 bytes, as
 *       blocks of 64 columns; piece i (16 bytes) of row r of a block at 128 r + 16 (i ^ r % 8)
 *       [PTX ISA, wgmma, 128-byte swizzle; a and b may begin at a multiple of 8 rows].
 *       dev_tile_fence(t): after copies have arrived, before the barrier in front of a product.
 *       dev_tile_wait(t, n): all but the newest n of this thread's products are done; before,
 *       nobody touches x, o and p. On the CPU x and o hold not-a-numbers until then.
 *       dev_settle(t, x): x, which is not negative, is computed before a wait that follows
 *   dev_exp2 dev_fma dev_bits dev_float dev_pack_bf16 dev_pack_fp16 dev_permute dev_fma_bf16x2
 *       dev_fma_fp16x2 dev_merge: arithmetic; dev_merge(w, mask, rest) is (w & mask) | rest
 *   dev_flop(t, issued, useful): tells the tally of multiplies and adds outside of matrix
 *       instructions, and of how many of both kinds are useful; dev_exps(t, n),
 *       dev_conversions(t, n): the other classes of the tally
 *   in a launcher: dev_capability(self), dev_refuse(self, status, text), FORWARD(id): another
 *       kernel with the same arguments; dev_has_tiles(self), dev_prefers_tiles(self): whether
 *       products of tiles run there, and whether they are the faster way
 */
#ifndef KVBUDGET_KERNELS_DEV_H
#define KVBUDGET_KERNELS_DEV_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/launch.h"

#ifdef __CUDACC__
#include "kernels/cuda/dev.cuh"
#else
#include "kernels/host/lane.h"
#endif

#include "kernels/number.h"

#endif

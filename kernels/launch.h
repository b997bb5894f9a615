/* Between device.h and its two backends: what a backend provides, and the list of kernels.
 * Inside kernels/ only. */
#ifndef KVBUDGET_KERNELS_LAUNCH_H
#define KVBUDGET_KERNELS_LAUNCH_H

#include "kernels/device_time.h"

/* Every kernel: cpu_ID and cuda_ID are its launchers, made by LAUNCHER(ID, ...) in a .cu file.
 */
#define KERNEL_LIST(X)                                                                         \
    X(copy)                                                                                    \
    X(stream)                                                                                  \
    X(append)                                                                                  \
    X(pack)                                                                                    \
    X(decode)                                                                                  \
    X(decode_ring)                                                                             \
    X(combine)                                                                                 \
    X(latent)                                                                                  \
    X(latent_append)                                                                           \
    X(latent_unpack)                                                                           \
    X(index)                                                                                   \
    X(index_norm)                                                                              \
    X(index_mask)                                                                              \
    X(prefill)                                                                                 \
    X(prefill_wgmma)                                                                           \
    X(norm)                                                                                    \
    X(rope)                                                                                    \
    X(swiglu)                                                                                  \
    X(scale)                                                                                   \
    X(logits)                                                                                  \
    X(argmax)                                                                                  \
    X(norms)                                                                                   \
    X(anchor)                                                                                  \
    X(angles)                                                                                  \
    X(select)                                                                                  \
    X(compact)                                                                                 \
    X(scores)                                                                                  \
    X(pool)                                                                                    \
    X(moments)                                                                                 \
    X(spread)                                                                                  \
    X(expect_logits)                                                                           \
    X(expect_total)                                                                            \
    X(expect)                                                                                  \
    X(prefer)                                                                                  \
    X(chunks)                                                                                  \
    X(budget)                                                                                  \
    X(replace)                                                                                 \
    X(carry)                                                                                   \
    X(turn)                                                                                    \
    X(bounds)                                                                                  \
    X(estimate)                                                                                \
    X(pick)                                                                                    \
    X(gemm)                                                                                    \
    X(mix)                                                                                     \
    X(gelu)                                                                                    \
    X(conv)                                                                                    \
    X(scan)                                                                                    \
    X(gate)                                                                                    \
    X(noise)                                                                                   \
    X(weight)                                                                                  \
    X(weight_across)                                                                           \
    X(weight_sum)                                                                              \
    X(weight_rows)                                                                             \
    X(weight_fill)

enum kernel {
#define X(id) KERNEL_##id,
    KERNEL_LIST(X)
#undef X
        N_KERNELS
};

struct shape {
    uint32_t grid[3]; /* blocks */
    uint32_t threads; /* a block, a multiple of 32 */
    uint32_t shared_bytes;
};

enum record { RECORD_START, RECORD_STOP, RECORD_RUN };

/* `self` is the backend's own state; what fails leaves its text with it. */
struct backend {
    /* name: what follows "cuda:", or "". */
    enum device_status (*open)(const char *name, const struct device_options *o, void **self,
                               struct device_text *why);
    void (*close)(void *self);
    const char *(*error)(const void *self);
    enum device_status (*info)(void *self, struct device_info *out);
    enum device_status (*alloc)(void *self, uint64_t bytes, enum tag tag, void **out);
    enum device_status (*free)(void *self, void *p);
    enum device_status (*fill)(void *self, void *p, int byte, uint64_t bytes);
    enum device_status (*copy)(void *self, void *to, const void *from, uint64_t bytes, bool up);
    enum device_status (*sync)(void *self);
    enum device_status (*timer)(void *self, double *seconds);             /* NULL: start */
    enum device_status (*mark)(void *self, double *seconds, uint32_t *n); /* NULL: one more */
    enum device_status (*record)(void *self, enum record what);
    /* out NULL: reset, but for bytes of `kept` touched so far (N_TAGS: none). */
    enum device_status (*tally)(void *self, struct tally *out, uint32_t kept);
    enum device_status (*launch[N_KERNELS])(void *self, const void *args); /* of its header */
};

#ifdef __cplusplus
extern "C" {
#endif
extern const struct backend backend_cpu, backend_cuda;
uint32_t cuda_count(struct device_text *why); /* of the CUDA backend, or of its stand-in */

#define X(id)                                                                                  \
    enum device_status cpu_##id(void *self, const void *args);                                 \
    enum device_status cuda_##id(void *self, const void *args);
KERNEL_LIST(X)
#undef X
#ifdef __cplusplus
}
#endif

/* For NAME_run; device_refuse (device.h) is its other end. */
enum device_status device_launch(struct device *d, enum kernel k, const void *args);

#endif

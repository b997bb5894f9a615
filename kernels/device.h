/* Devices that run our kernels: one GPU through the CUDA runtime ("cuda:0"), or the CPU build
 * of the same kernel sources ("cpu"), where every access to device memory is checked and
 * tallied. Plain C, no CUDA type; this header and those of the kernels (copy.h, append.h,
 * decode.h ...) are all that other folders see.
 *
 *     struct device_text why;
 *     struct device *d;
 *     if (device_open("cpu", &(struct device_options){0}, &d, &why) != DEVICE_OK) ... why.text
 *     device_alloc(d, bytes, TAG_K, &p); device_upload(d, p, host, bytes);
 *     copy_run(d, &args); device_sync(d); device_tally(d, &tally); device_close(d);
 *
 * Every function returns a status; the text of the last failure is device_error(d). Launches
 * are asynchronous on a GPU: what a kernel did wrong shows at the next device_sync at the
 * latest. A device belongs to one thread at a time. device_time.h: how long work takes.
 *
 * A kernel NAME has four parts: NAME.h (arguments, limits, what it computes), NAME.c (checks,
 * NAME_run, NAME_traffic: the exact bytes and FLOPs that the kernel issues), NAME.cu (device
 * code, compiled by nvcc and, as C, by the host compiler) and a line in KERNEL_LIST
 * (launch.h). */
#ifndef KVBUDGET_KERNELS_DEVICE_H
#define KVBUDGET_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

enum device_status {
    DEVICE_OK,
    DEVICE_ABSENT,      /* no driver, no such device, built without CUDA */
    DEVICE_UNSUPPORTED, /* this device or build cannot run that */
    DEVICE_OUT_OF_MEMORY,
    DEVICE_BAD_ARGUMENT,
    DEVICE_FAULT /* a kernel or a copy failed; close the device */
};

/* What an allocation holds. Traffic is kept apart by it. */
enum tag { TAG_WEIGHTS, TAG_K, TAG_V, TAG_STATE, TAG_TABLES, TAG_WORK, TAG_ACTIVATION };
enum { N_TAGS = 7 };

/* What kernels issue, or a formula says that they issue. A multiply and an add are 2 FLOP. */
struct traffic {
    uint64_t read_bytes[N_TAGS], written_bytes[N_TAGS];
    uint64_t tensor_flop; /* in matrix instructions, padding included */
    uint64_t vector_flop; /* multiplies and adds outside them */
    uint64_t useful_flop; /* of both: those of the mathematics, unmasked products only */
    uint64_t exps;        /* exponentials */
    uint64_t conversions; /* elements decoded from 8 bits or fewer, or encoded to them */
};

struct tally { /* since the last device_tally_reset */
    struct traffic issued;
    uint64_t unique_read_bytes[N_TAGS], unique_written_bytes[N_TAGS]; /* each byte once */
    uint64_t launches;
};

struct device_text {
    char text[256];
};

struct device_options {
    uint64_t
        limit_bytes;  /* allocations beyond this sum fail as if memory were full; 0 = none */
    bool poison;      /* new memory is filled with 0xff bytes: not-a-number in every type */
    double timeout_s; /* cuda: a wait that takes longer is DEVICE_FAULT, "a kernel hangs": close
                         the device, what it holds is freed when the process ends; 0 = 2 min */
    bool reversed;    /* cpu: blocks, warps and threads run last to first (finds races) */
};

struct device_info {
    char name[64];
    bool is_cpu;
    int major, minor; /* compute capability; the CPU build counts as 9.0 */
    uint64_t total_bytes, free_bytes;
    uint64_t l2_bytes;
    uint32_t multiprocessors;
    int driver, runtime; /* CUDA versions as 1000 * major + 10 * minor; 0 = none */
};

struct device;

/* GPUs that CUDA sees; 0 with the reason in *why. */
uint32_t device_cuda_count(struct device_text *why);

/* name: "cpu" or "cuda:N". On failure *out is NULL and *why says why, in one line. */
enum device_status device_open(const char *name, const struct device_options *o,
                               struct device **out, struct device_text *why);
void device_close(struct device *d); /* frees its allocations; NULL is fine */

const char *device_error(const struct device *d);
/* Returns s and makes the text the device's last failure: for what runs kernels. */
enum device_status device_refuse(struct device *d, enum device_status s, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
enum device_status device_get_info(struct device *d, struct device_info *out);

/* Allocations are aligned to 256 bytes and count as multiples of 256 against the limit. */
enum device_status device_alloc(struct device *d, uint64_t bytes, enum tag tag, void **out);
enum device_status device_free(struct device *d, void *p); /* NULL is fine */
void device_free_all(struct device *d);
uint64_t device_used_bytes(const struct device *d);

enum device_status device_fill(struct device *d, void *p, int byte, uint64_t bytes);
enum device_status device_upload(struct device *d, void *to, const void *from, uint64_t bytes);
enum device_status device_download(struct device *d, void *to, const void *from,
                                   uint64_t bytes);
enum device_status device_sync(struct device *d);

/* Only the CPU build counts; DEVICE_UNSUPPORTED elsewhere. */
enum device_status device_tally(struct device *d, struct tally *out);
void device_tally_reset(struct device *d);
/* But bytes of `kept` that were touched stay so: later tallies have them among the unique. */
void device_tally_reset_but(struct device *d, uint32_t kept);

#endif

/* A GPU as plain figures, each with its source: memory as a driver's tool and as a program sees
 * it, bandwidth, dense peak rates, links, and what share of the peaks real kernels reach.
 *
 * `confidence` of the fp16 and bf16 peaks: A, two independent files agree within 5 %, or one
 * file and the clock; B, one source, or a noted conflict; C, unverified or disputed. Rates are
 * dense, never with sparsity; int8 is counted in multiplies and adds like the rest. */
#ifndef KVBUDGET_PLANNER_COST_GPU_H
#define KVBUDGET_PLANNER_COST_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "planner/doc/doc.h"
#include "planner/doc/profile.h"

enum gpu_dtype {
    GPU_FP32,
    GPU_TF32,
    GPU_FP16,       /* accumulates in fp32 */
    GPU_FP16_ACC16, /* accumulates in fp16: twice as fast on GeForce cards */
    GPU_BF16,
    GPU_FP8,
    GPU_INT8,
    GPU_FP4
};
enum { GPU_DTYPES = 8 };

/* The figures of a GPU; gpu_fact_key gives the key under which each is written. */
enum gpu_fact {
    GPU_FACT_MEMORY_MARKETING,
    GPU_FACT_MEMORY_TOTAL,
    GPU_FACT_MEMORY_USABLE,
    GPU_FACT_BANDWIDTH,
    GPU_FACT_PEAK, /* the first of GPU_DTYPES peak rates */
    GPU_FACT_L2 = GPU_FACT_PEAK + GPU_DTYPES,
    GPU_FACT_MULTIPROCESSORS,
    GPU_FACT_NVLINK,
    GPU_FACT_PCIE_GENERATION,
    GPU_FACT_PCIE_LANES,
    GPU_FACT_LINK,
    GPU_FACT_PEER_BANDWIDTH,
    GPU_FACT_PEER_LATENCY,
    GPU_FACT_POWER,
    GPU_FACT_DECODE_BANDWIDTH, /* from here on: the keys of `efficiency` */
    GPU_FACT_WEIGHT_BANDWIDTH,
    GPU_FACT_GEMM_BF16,
    GPU_FACT_GEMM_FP8,
    GPU_FACT_GEMM_INT8,
    GPU_FACT_GEMM_FP4,
    GPU_FACT_ATTENTION,
    GPU_FACT_LINK_SHARE,
    GPU_FACT_KERNEL_LAUNCH,
    GPU_FACTS
};

enum gpu_confidence {
    GPU_CONFIDENCE_A,
    GPU_CONFIDENCE_B,
    GPU_CONFIDENCE_C,
    GPU_CONFIDENCE_GIVEN
};

struct gpu_origin {
    const char *source; /* NULL: the figure is not known and 0 */
    bool is_default;    /* our assumption, not a figure of this device */
};

struct gpu {
    const char *name, *vendor, *architecture; /* "" = not said */
    const char *compute_capability;           /* "9.0", "gfx942" */
    uint64_t confidence;                      /* enum gpu_confidence */
    uint64_t memory_marketing_bytes;
    uint64_t memory_total_bytes;        /* what nvidia-smi or rocm-smi prints */
    uint64_t memory_usable_bytes;       /* the total a program sees; falls back to the former */
    double bandwidth_bytes_per_s;       /* 0 = not said */
    double peak_flop_per_s[GPU_DTYPES]; /* 0 = the device has no such rate, or none is known */
    uint64_t l2_bytes, multiprocessors, pcie_generation, pcie_lanes;
    double nvlink_bytes_per_s;               /* both directions together, all links; 0 = none */
    double link_bytes_per_s;                 /* to the host, one direction, before link_ratio */
    double peer_bytes_per_s, peer_latency_s; /* all-reduce of two: bus bandwidth, a small one */
    double power_w;
    double decode_bandwidth_ratio; /* of bandwidth, attention while decoding */
    double weight_bandwidth_ratio; /* of bandwidth, matrix products with few rows */
    double gemm_bf16_ratio, gemm_fp8_ratio, gemm_int8_ratio, gemm_fp4_ratio; /* of the peak */
    double attention_ratio; /* of the bf16 peak, attention over a prompt */
    double link_ratio;      /* of the host link */
    double kernel_launch_s;
    struct gpu_origin origin[GPU_FACTS];
};

const char *gpu_fact_key(enum gpu_fact f); /* "memory_usable", "efficiency.gemm_bf16" */
double gpu_fact_value(const struct gpu *g, enum gpu_fact f);
const char *gpu_dtype_name(enum gpu_dtype t);
const char *gpu_confidence_name(uint64_t confidence);

/* The profile of that name. Assumptions (default efficiencies, ...) are notes at `at`. */
bool gpu_load(struct arena *a, const struct profiles *p, const char *name, struct loc at,
              struct diag *d, struct gpu *out) __attribute__((warn_unused_result));

/* A GPU in a spec: {memory: 24GiB, bandwidth: 936GB/s, ...}; keys as in a profile, `memory` for
 * memory_total, each value plain or {value, source}. Only the memory is needed. */
bool gpu_inline(struct arena *a, const struct doc_node *map, struct diag *d, struct gpu *out)
    __attribute__((warn_unused_result));

/* The peak rate for products in that type or the next wider one the device has (*used, may be
 * NULL); 0 when none is known. */
double gpu_peak_flop_per_s(const struct gpu *g, enum gpu_dtype want, enum gpu_dtype *used);

/* The fact that holds the achievable share of a type's peak: wide types go by bf16. */
enum gpu_fact gpu_gemm_fact(enum gpu_dtype t);
double gpu_gemm_ratio(const struct gpu *g, enum gpu_dtype t);

/* One direction of a PCIe link (generations 1 to 6, else 0) after line coding; and what an
 * all-reduce gets between two cards whose host link is that fast, in bytes/s. */
double gpu_pcie_bytes_per_s(uint64_t generation, uint64_t lanes);
double gpu_peer_bytes_per_s(const struct gpu *g, double host_link_bytes_per_s);

#endif

/* How weights are stored: a format for the tensors that are quantized, 16 bits for the rest. */
#ifndef KVBUDGET_PLANNER_MODEL_QUANT_H
#define KVBUDGET_PLANNER_MODEL_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One way to store a matrix [out][in]:
 *   codes:  ceil(in / block_elems) * block_bytes a row
 *   scales: one of scale_bytes for each tile of scale_rows x scale_cols (0 = none; UINT32_MAX =
 * the whole side) zeros:  zero_bits for each such tile, packed extra:  input_bytes for each
 * input column (GPTQ g_idx)                                                    */
struct weight_format {
    const char *name; /* "bf16", "fp8_block", "awq_int4", ... */
    uint32_t block_elems, block_bytes;
    uint32_t scale_rows, scale_cols, scale_bytes;
    uint32_t zero_bits, input_bytes;
    const char *source;
};

/* Which tensors are stored how. `formats` of a spec (`weights.format: fp8`) replaces `format`,
 * never the mask. */
struct quant {
    const struct weight_format *format; /* NULL: everything in the model's dtype */
    const char *method; /* "fp8", "awq", "gptq", "compressed-tensors", "mxfp4", "bitsandbytes",
                           "modelopt" */
    uint32_t parts;     /* bit per enum part (weights.h) that is quantized */
    const uint32_t
        *layer_parts; /* [n_layers]: the same for each layer; NULL = `parts` in every layer */
    const char *const
        *ignored; /* module names or patterns kept unquantized, resolved into the masks above */
    size_t n_ignored;
    const struct weight_format *embed, *head; /* of these two tables where they differ (GGUF);
                                                 NULL = by `format` and `parts` */
    const char *kv_format; /* KV-cache format the checkpoint asks for, or NULL */
};

/* The table of weight formats; NULL when unknown. Names: bf16 fp16 fp32 fp8 fp8_block int8 int4
 * awq gptq nf4 mxfp4 nvfp4 and the ggml types (q4_0, q4_k, ...). */
const struct weight_format *weight_format_find(const char *name);
const struct weight_format *weight_format_at(size_t i); /* NULL past the end */

#endif

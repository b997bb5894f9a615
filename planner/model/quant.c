/* The table of weight formats: how many bytes a matrix takes. Which tensors of a checkpoint use
 * which is read in quant_config.c. */
#include "planner/model/quant.h"

#include <string.h>
#include <strings.h>

#define WHOLE UINT32_MAX
#define GGML "ggml ggml-common.h block structs, whisper.cpp 4834a2327"
#define PLAIN(n, bytes, text)                                                                  \
    {                                                                                          \
        .name = (n), .block_elems = 1, .block_bytes = (bytes), .source = (text)                \
    }
#define BLOCK(n, elems, bytes)                                                                 \
    {                                                                                          \
        .name = (n), .block_elems = (elems), .block_bytes = (bytes), .source = GGML            \
    }

static const struct weight_format formats[] = {
    PLAIN("bf16", 2, "bfloat16"),
    PLAIN("fp16", 2, "IEEE 754 binary16"),
    PLAIN("fp32", 4, "IEEE 754 binary32"),
    /* one fp32 scale a matrix */
    {"fp8", 1, 1, WHOLE, WHOLE, 4, 0, 0, "vLLM fp8 and ModelOpt FP8: one fp32 scale a matrix"},
    {"fp8_channel", 1, 1, 1, WHOLE, 4, 0, 0,
     "compressed-tensors float-quantized, strategy channel"},
    {"fp8_block", 1, 1, 128, 128, 4, 0, 0,
     "DeepSeek-V3 weight_block_size [128, 128], fp32 scales"},
    {"int8", 1, 1, 1, WHOLE, 4, 0, 0,
     "compressed-tensors int-quantized W8A8: a scale a channel"},
    {"int4", 2, 1, 1, 128, 2, 0, 0,
     "compressed-tensors pack-quantized W4A16, groups of 128, symmetric"},
    {"int4_g32", 2, 1, 1, 32, 2, 0, 0,
     "compressed-tensors pack-quantized W4A16, groups of 32 (Kimi-K2.5)"},
    {"int4_g64", 2, 1, 1, 64, 2, 0, 0, "compressed-tensors pack-quantized W4A16, groups of 64"},
    {"int4_channel", 2, 1, 1, WHOLE, 2, 0, 0,
     "compressed-tensors pack-quantized W4A16, a scale a channel"},
    {"int8_g128", 1, 1, 1, 128, 2, 0, 0,
     "compressed-tensors pack-quantized W8A16, groups of 128"},
    {"awq", 2, 1, 1, 128, 2, 4, 0,
     "AWQ 4 bit, groups of 128: fp16 scale and 4-bit zero a group"},
    {"awq_g64", 2, 1, 1, 64, 2, 4, 0, "AWQ 4 bit, groups of 64"},
    {"awq_g32", 2, 1, 1, 32, 2, 4, 0, "AWQ 4 bit, groups of 32"},
    {"gptq", 2, 1, 1, 128, 2, 4, 4,
     "GPTQ 4 bit, groups of 128: scale, zero, int32 g_idx a column"},
    {"gptq_g64", 2, 1, 1, 64, 2, 4, 4, "GPTQ 4 bit, groups of 64"},
    {"gptq_g32", 2, 1, 1, 32, 2, 4, 4, "GPTQ 4 bit, groups of 32"},
    {"gptq_int8", 1, 1, 1, 128, 2, 8, 4, "GPTQ 8 bit, groups of 128"},
    {"gptq_int8_g32", 1, 1, 1, 32, 2, 8, 4, "GPTQ 8 bit, groups of 32"},
    {"nf4", 2, 1, 1, 64, 4, 0, 0, "bitsandbytes 4 bit: fp32 absmax for each 64 weights"},
    {"nf4_double", 2, 1, 1, 64, 1, 0, 0, "bitsandbytes 4 bit, double quantized: 8-bit absmax"},
    {"bnb_int8", 1, 1, 1, WHOLE, 4, 0, 0, "bitsandbytes LLM.int8: fp32 absmax a row"},
    {"mxfp4", 32, 17, 0, 0, 0, 0, 0, "OCP MX: 32 fp4 elements and an 8-bit scale"},
    {"nvfp4", 16, 9, WHOLE, WHOLE, 4, 0, 0,
     "NVFP4: 16 fp4 elements, an fp8 scale; fp32 a matrix"},
    BLOCK("q4_0", 32, 18),
    BLOCK("q4_1", 32, 20),
    BLOCK("q5_0", 32, 22),
    BLOCK("q5_1", 32, 24),
    BLOCK("q8_0", 32, 34),
    BLOCK("q8_1", 32, 36),
    BLOCK("q2_k", 256, 84),
    BLOCK("q3_k", 256, 110),
    BLOCK("q4_k", 256, 144),
    BLOCK("q5_k", 256, 176),
    BLOCK("q6_k", 256, 210),
    BLOCK("q8_k", 256, 292),
    BLOCK("iq2_xxs", 256, 66),
    BLOCK("iq2_xs", 256, 74),
    BLOCK("iq3_xxs", 256, 98),
    BLOCK("iq1_s", 256, 50),
    BLOCK("iq4_nl", 32, 18),
    BLOCK("iq3_s", 256, 110),
    BLOCK("iq2_s", 256, 82),
    BLOCK("iq4_xs", 256, 136),
    BLOCK("iq1_m", 256, 56),
    BLOCK("tq1_0", 256, 54),
    BLOCK("tq2_0", 256, 66),
    BLOCK("q1_0", 128, 18),
    BLOCK("q2_0", 64, 18),
    BLOCK("nvfp4_ggml", 64, 36),
};

const struct weight_format *weight_format_at(size_t i)
{
    return i < sizeof formats / sizeof *formats ? &formats[i] : NULL;
}

/* Other words for the same: as torch, ggml and engines write them. */
static const char *canonical(const char *name)
{
    static const char *const other[][2] = {
        {"bfloat16", "bf16"}, {"float16", "fp16"},   {"half", "fp16"},  {"f16", "fp16"},
        {"float32", "fp32"},  {"float", "fp32"},     {"f32", "fp32"},   {"fp8_e4m3", "fp8"},
        {"awq_int4", "awq"},  {"gptq_int4", "gptq"}, {"w4a16", "int4"}, {"w8a8", "int8"},
    };

    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        if (strcasecmp(name, other[i][0]) == 0)
            return other[i][1];
    }
    return name;
}

const struct weight_format *weight_format_find(const char *name)
{
    if (!name)
        return NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) { /* asked for each tensor */
        if (strcmp(name, formats[i].name) == 0)
            return &formats[i];
    }
    name = canonical(name);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcasecmp(name, formats[i].name) == 0)
            return &formats[i];
    }
    return NULL;
}

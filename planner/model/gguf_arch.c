/* The table of architectures in GGUF files.
 *
 * source: llama.cpp src/llama-arch.cpp, llama-model.cpp (set_swa_pattern, n_swa) as vendored in
 * ggml-org/whisper.cpp 4834a2327. */
#include "planner/model/gguf_arch.h"

#include <stddef.h>
#include <string.h>

#define ENCODER "it is an encoder and keeps no K/V cache"
#define RWKV "its state is of a kind that is not known here"

static const struct gguf_arch archs[] = {
    {.name = "llama", .model_type = "llama"},
    {.name = "llama4",
     .model_type = "llama4_text",
     .period = 4,
     .chunked = true,
     .window = 8192},
    {.name = "qwen2", .model_type = "qwen2"},
    {.name = "qwen2moe", .model_type = "qwen2_moe"},
    {.name = "qwen2vl", .model_type = "qwen2_vl"},
    {.name = "qwen3", .model_type = "qwen3"},
    {.name = "qwen3moe", .model_type = "qwen3_moe"},
    {.name = "qwen3vl", .model_type = "qwen3_vl"},
    {.name = "qwen3vlmoe", .model_type = "qwen3_vl_moe"},
    {.name = "qwen3next", .model_type = "qwen3_next"},
    {.name = "qwen35", .model_type = "qwen3_5"},
    {.name = "qwen35moe", .model_type = "qwen3_5_moe"},
    {.name = "gemma", .model_type = "gemma"},
    {.name = "gemma2", .model_type = "gemma2", .period = 2},
    {.name = "gemma3", .model_type = "gemma3_text", .period = 6},
    {.name = "gemma3n", .model_type = "gemma3n_text", .period = 5, .kv_layers = 20},
    {.name = "gemma4", .model_type = "gemma4_text"},
    {.name = "phi2", .model_type = "phi"},
    {.name = "phi3", .model_type = "phi3"},
    {.name = "phimoe", .model_type = "phimoe"},
    {.name = "falcon", .model_type = "falcon"},
    {.name = "falcon-h1", .model_type = "falcon_h1"},
    {.name = "deepseek", .model_type = "deepseek"},
    {.name = "deepseek2", .model_type = "deepseek_v3"},
    {.name = "deepseek32", .model_type = "deepseek_v32"},
    {.name = "glm-dsa", .model_type = "glm_moe_dsa"},
    {.name = "command-r", .model_type = "cohere"},
    {.name = "cohere2", .model_type = "cohere2", .period = 4},
    {.name = "starcoder2", .model_type = "starcoder2"},
    {.name = "gpt2", .model_type = "gpt2"},
    {.name = "gptneox", .model_type = "gpt_neox"},
    {.name = "bloom", .model_type = "bloom"},
    {.name = "mpt", .model_type = "mpt"},
    {.name = "opt", .model_type = "opt"},
    {.name = "mamba", .model_type = "mamba"},
    {.name = "mamba2", .model_type = "mamba2"},
    {.name = "jamba", .model_type = "jamba"},
    {.name = "olmo", .model_type = "olmo"},
    {.name = "olmo2", .model_type = "olmo2", .period = 4},
    {.name = "olmoe", .model_type = "olmoe"},
    {.name = "granite", .model_type = "granite"},
    {.name = "granitemoe", .model_type = "granitemoe"},
    {.name = "granitehybrid", .model_type = "granitemoehybrid"},
    {.name = "nemotron_h", .model_type = "nemotron_h"},
    {.name = "nemotron_h_moe", .model_type = "nemotron_h"},
    {.name = "deci", .model_type = "nemotron-nas"},
    {.name = "lfm2", .model_type = "lfm2"},
    {.name = "lfm2moe", .model_type = "lfm2_moe"},
    {.name = "exaone4", .model_type = "exaone4", .period = 4},
    {.name = "exaone-moe", .period = 4},
    {.name = "gpt-oss", .model_type = "gpt_oss", .period = 2},
    {.name = "glm4", .model_type = "glm4"},
    {.name = "glm4moe", .model_type = "glm4_moe"},
    {.name = "chatglm", .model_type = "chatglm"},
    {.name = "internlm2", .model_type = "internlm2"},
    {.name = "smollm3", .model_type = "smollm3"},
    {.name = "minimax-m2", .model_type = "minimax_m2"},
    {.name = "hunyuan-dense", .model_type = "hunyuan_v1_dense"},
    {.name = "hunyuan-moe", .model_type = "hunyuan_v1_moe"},
    {.name = "kimi-linear", .model_type = "kimi_linear"},
    {.name = "dbrx", .model_type = "dbrx"},
    {.name = "mimo2", .model_type = "mimo_v2_flash"},
    {.name = "smallthinker", .period = 4, .dense_first = true},
    {.name = "laguna", .period = 4, .dense_first = true},
    {.name = "plamo3", .period = 8},
    {.name = "afmoe", .period = 4},
    {.name = "mellum", .period = 4},
    {.name = "dflash", .period = GGUF_EVERY_LAYER_SLIDES},
    {.name = "step35", .model_type = "step3p5"},
    {.name = "minimax-01", .refused = "its linear attention is not read from GGUF files"},
    {.name = "deepseek4", .refused = "its compressed caches are not known here"},
    {.name = "rwkv6", .refused = RWKV},
    {.name = "rwkv6qwen2", .refused = RWKV},
    {.name = "rwkv7", .refused = RWKV},
    {.name = "arwkv7", .refused = RWKV},
    {.name = "plamo2", .refused = RWKV},
    {.name = "t5", .refused = "it is an encoder with a decoder"},
    {.name = "bert", .refused = ENCODER},
    {.name = "modern-bert", .refused = ENCODER},
    {.name = "nomic-bert", .refused = ENCODER},
    {.name = "nomic-bert-moe", .refused = ENCODER},
    {.name = "neo-bert", .refused = ENCODER},
    {.name = "jina-bert-v2", .refused = ENCODER},
    {.name = "jina-bert-v3", .refused = ENCODER},
    {.name = "gemma-embedding", .refused = ENCODER},
    {.name = "t5encoder", .refused = ENCODER},
    {.name = "dream", .refused = "it is a diffusion model and keeps no K/V cache"},
    {.name = "llada", .refused = "it is a diffusion model and keeps no K/V cache"},
    {.name = "wavtokenizer-dec", .refused = "it is no language model"},
    {.name = "clip", .refused = "it is the projector of a vision model: name the model's file"},
};

const struct gguf_arch *gguf_arch_find(const char *name)
{
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        if (strcmp(archs[i].name, name) == 0)
            return &archs[i];
    }
    return NULL;
}

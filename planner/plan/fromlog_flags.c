/* The options of servers that a spec has keys for: one table. In the lists of settings that
 * servers print an option goes by its long name with '_' for '-'.
 *
 * source: vllm/engine/arg_utils.py, sglang/srt/server_args.py, tensorrt_llm/commands/serve.py,
 * llama.cpp common/arg.cpp, and the rules in their config classes. */
#include "planner/plan/fromlog_in.h"

#include <string.h>

static const struct log_flag flags[] = {
    {LOG_VLLM, "--model", "--model-tag", FLAG_MODEL, "model"},
    {LOG_VLLM, "--gpu-memory-utilization", NULL, FLAG_NUMBER, "engine.memory_fraction"},
    {LOG_VLLM, "--max-model-len", "--max-seq-len", FLAG_TOKENS, "engine.max_model_len"},
    {LOG_VLLM, "--max-num-seqs", NULL, FLAG_COUNT, "engine.max_seqs"},
    {LOG_VLLM, "--max-num-batched-tokens", NULL, FLAG_TOKENS, "engine.max_batched_tokens"},
    {LOG_VLLM, "--block-size", NULL, FLAG_COUNT, "engine.block_tokens"},
    {LOG_VLLM, "--tensor-parallel-size", "-tp", FLAG_COUNT, "parallel.tp"},
    {LOG_VLLM, "--pipeline-parallel-size", "-pp", FLAG_COUNT, "parallel.pp"},
    {LOG_VLLM, "--data-parallel-size", "-dp", FLAG_COUNT, "parallel.dp"},
    {LOG_VLLM, "--enable-expert-parallel", "-ep", FLAG_YES, "_expert_parallel"},
    {LOG_VLLM, "--kv-cache-dtype", NULL, FLAG_CACHE, "cache.format"},
    {LOG_VLLM, "--dtype", NULL, FLAG_DTYPE, "weights.format"},
    {LOG_VLLM, "--quantization", "-q", FLAG_QUANT, "weights.format"},
    {LOG_VLLM, "--enforce-eager", NULL, FLAG_NO, "engine.cuda_graphs"},
    {LOG_VLLM, "--no-enforce-eager", NULL, FLAG_YES, "engine.cuda_graphs"},
    {LOG_VLLM, "--no-enable-chunked-prefill", NULL, FLAG_YES, "_whole_prompts"},
    {LOG_VLLM, "--kv-cache-memory-bytes", "--kv-cache-memory", FLAG_MEMORY,
     "memory.per_gpu.kv_pool_bytes"},
    {LOG_VLLM, "--num-gpu-blocks-override", NULL, FLAG_UNPLANNED, NULL},
    {LOG_VLLM, "--cpu-offload-gb", NULL, FLAG_UNPLANNED, NULL},
    {LOG_VLLM, "--enable-lora", NULL, FLAG_UNPLANNED, NULL},
    {LOG_VLLM, "--speculative-config", NULL, FLAG_UNPLANNED, NULL},
    {LOG_VLLM, "--speculative-model", NULL, FLAG_UNPLANNED, NULL},
    {LOG_VLLM, "--decode-context-parallel-size", "-dcp", FLAG_UNPLANNED, NULL},

    {LOG_SGLANG, "--model-path", "--model", FLAG_MODEL, "model"},
    {LOG_SGLANG, "--mem-fraction-static", NULL, FLAG_NUMBER, "engine.memory_fraction"},
    {LOG_SGLANG, "--context-length", "--context-len", FLAG_TOKENS, "engine.max_model_len"},
    {LOG_SGLANG, "--max-running-requests", NULL, FLAG_COUNT, "engine.max_seqs"},
    {LOG_SGLANG, "--chunked-prefill-size", NULL, FLAG_TOKENS, "engine.max_batched_tokens"},
    {LOG_SGLANG, "--page-size", NULL, FLAG_COUNT, "engine.block_tokens"},
    {LOG_SGLANG, "--tp-size", "--tp", FLAG_COUNT, "parallel.tp"},
    {LOG_SGLANG, "--tensor-parallel-size", NULL, FLAG_COUNT, "parallel.tp"},
    {LOG_SGLANG, "--pp-size", "--pp", FLAG_COUNT, "parallel.pp"},
    {LOG_SGLANG, "--pipeline-parallel-size", NULL, FLAG_COUNT, "parallel.pp"},
    {LOG_SGLANG, "--dp-size", "--dp", FLAG_COUNT, "parallel.dp"},
    {LOG_SGLANG, "--data-parallel-size", NULL, FLAG_COUNT, "parallel.dp"},
    {LOG_SGLANG, "--ep-size", "--ep", FLAG_COUNT, "parallel.ep"},
    {LOG_SGLANG, "--expert-parallel-size", NULL, FLAG_COUNT, "parallel.ep"},
    {LOG_SGLANG, "--enable-dp-attention", NULL, FLAG_YES, "_dp_attention"},
    {LOG_SGLANG, "--kv-cache-dtype", NULL, FLAG_CACHE, "cache.format"},
    {LOG_SGLANG, "--dtype", NULL, FLAG_DTYPE, "weights.format"},
    {LOG_SGLANG, "--quantization", NULL, FLAG_QUANT, "weights.format"},
    {LOG_SGLANG, "--disable-cuda-graph", NULL, FLAG_NO, "engine.cuda_graphs"},
    {LOG_SGLANG, "--max-total-tokens", NULL, FLAG_UNPLANNED, NULL},
    {LOG_SGLANG, "--cpu-offload-gb", NULL, FLAG_UNPLANNED, NULL},
    {LOG_SGLANG, "--speculative-algorithm", "--speculative-algo", FLAG_UNPLANNED, NULL},

    {LOG_TRTLLM, "--model", NULL, FLAG_MODEL, "model"},
    {LOG_TRTLLM, "--kv_cache_free_gpu_memory_fraction", "--free_gpu_memory_fraction",
     FLAG_NUMBER, "engine.memory_fraction"},
    {LOG_TRTLLM, "--max_seq_len", NULL, FLAG_TOKENS, "engine.max_model_len"},
    {LOG_TRTLLM, "--max_batch_size", NULL, FLAG_COUNT, "engine.max_seqs"},
    {LOG_TRTLLM, "--max_num_tokens", NULL, FLAG_TOKENS, "engine.max_batched_tokens"},
    {LOG_TRTLLM, "--tokens_per_block", NULL, FLAG_COUNT, "engine.block_tokens"},
    {LOG_TRTLLM, "--tp_size", "--tensor_parallel_size", FLAG_COUNT, "parallel.tp"},
    {LOG_TRTLLM, "--pp_size", "--pipeline_parallel_size", FLAG_COUNT, "parallel.pp"},
    {LOG_TRTLLM, "--ep_size", "--moe_expert_parallel_size", FLAG_COUNT, "parallel.ep"},
    {LOG_TRTLLM, "--cp_size", "--context_parallel_size", FLAG_COUNT, "parallel.cp"},
    {LOG_TRTLLM, "--kv_cache_dtype", NULL, FLAG_CACHE, "cache.format"},

    {LOG_LLAMACPP, "--model", "-m", FLAG_MODEL, "model"},
    {LOG_LLAMACPP, "--hf-repo", "-hf", FLAG_MODEL, "model"},
    {LOG_LLAMACPP, "--ctx-size", "-c", FLAG_TOKENS, "engine.max_model_len"},
    {LOG_LLAMACPP, "--parallel", "-np", FLAG_COUNT, "engine.n_seq"},
    {LOG_LLAMACPP, "--batch-size", "-b", FLAG_COUNT, "engine.n_batch"},
    {LOG_LLAMACPP, "--ubatch-size", "-ub", FLAG_COUNT, "engine.n_ubatch"},
    {LOG_LLAMACPP, "--cache-type-k", "-ctk", FLAG_CACHE_GGML, "cache.k"},
    {LOG_LLAMACPP, "--cache-type-v", "-ctv", FLAG_CACHE_GGML, "cache.v"},
    {LOG_LLAMACPP, "--n-gpu-layers", "-ngl", FLAG_LAYERS, "engine.offload_layers"},
    {LOG_LLAMACPP, "--gpu-layers", NULL, FLAG_LAYERS, "engine.offload_layers"},
    {LOG_LLAMACPP, "--flash-attn", "-fa", FLAG_CHOICE, "engine.flash_attn"},
    {LOG_LLAMACPP, "--kv-unified", "-kvu", FLAG_YES, "engine.kv_unified"},
    {LOG_LLAMACPP, "--no-kv-unified", "-no-kvu", FLAG_NO, "engine.kv_unified"},
    {LOG_LLAMACPP, "--swa-full", NULL, FLAG_YES, "engine.swa_full"},
    {LOG_LLAMACPP, "--no-kv-offload", "-nkvo", FLAG_UNPLANNED, NULL},
    {LOG_LLAMACPP, "--override-tensor", "-ot", FLAG_UNPLANNED, NULL},
    {LOG_LLAMACPP, "--cpu-moe", "-cmoe", FLAG_UNPLANNED, NULL},
    {LOG_LLAMACPP, "--n-cpu-moe", "-ncmoe", FLAG_UNPLANNED, NULL},
    {LOG_LLAMACPP, "--tensor-split", "-ts", FLAG_UNPLANNED, NULL},
    {LOG_LLAMACPP, "--model-draft", "-md", FLAG_UNPLANNED, NULL},
    {LOG_LLAMACPP, "--mmproj", "-mm", FLAG_UNPLANNED, NULL},
};
enum { N_FLAGS = sizeof flags / sizeof *flags };

/* --- values ---------------------------------------------------------------------------------
 */

static bool is_one_of(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(word, *list))
            return true;
    return false;
}

static bool not_set(const char *v)
{
    static const char *const words[] = {"None", "auto", "-1", "null", "", NULL};

    return is_one_of(v, words);
}

/* 8192, and in vLLM's words 8k = 8000, 8K = 8192, 1.5m, 2G. */
static bool human(const char *text, uint64_t *out)
{
    static const char letters[] = "kmgtKMGT";
    static const double times[] = {1e3,    1e6,       1e9,          1e12,
                                   1024.0, 1048576.0, 1073741824.0, 1099511627776.0};
    char number[32];
    size_t n = strlen(text);
    const char *letter = n ? strchr(letters, text[n - 1]) : NULL;
    double v;

    if (!letter || n >= sizeof number)
        return unit_parse_u64(text, out) == UNIT_OK;
    memcpy(number, text, n - 1);
    number[n - 1] = '\0';
    if (unit_parse_double(number, &v) != UNIT_OK || v > 1e12)
        return false;
    v *= times[letter - letters];
    if (v > 1e18)
        return false;
    *out = (uint64_t)(v + 0.5);
    return true;
}

/* The name of a spec for a type of cache, or NULL for one that is left to the engine. */
static const char *cache_name(const char *v)
{
    static const char *const names[][2] = {
        {"bfloat16", "bf16"},    {"torch.bfloat16", "bf16"},
        {"half", "fp16"},        {"float16", "fp16"},
        {"f16", "fp16"},         {"f32", "fp32"},
        {"float32", "fp32"},     {"fp8", "fp8_e4m3"},
        {"fp8_inc", "fp8_e4m3"},
    };

    if (not_set(v))
        return NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(v, names[i][0]))
            return names[i][1];
    return v;
}

static bool bad_value(struct log_reader *r, const struct log_flag *f, const char *v,
                      const char *wants)
{
    return diag_add(r->diag, DIAG_INPUT, r->at, "%s of %s takes %s, found '%.40s'", f->name,
                    log_engine_title(f->engine), wants, v);
}

static bool set_cache_ggml(struct log_reader *r, const struct log_flag *f, const char *v)
{
    static const char *const types[] = {"f32",  "f16",  "bf16", "q8_0",   "q4_0",
                                        "q4_1", "q5_0", "q5_1", "iq4_nl", NULL};

    if (!is_one_of(v, types))
        return bad_value(r, f, v, "f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl");
    log_set(r, f->path, cache_name(v), f->name, LOG_FLAG);
    return true;
}

static bool set_choice(struct log_reader *r, const struct log_flag *f, const char *v,
                       enum log_rank rank)
{
    static const char *const on[] = {"on", "1", "true", "enabled", NULL};
    static const char *const off[] = {"off", "0", "false", "disabled", NULL};

    if (is_one_of(v, on))
        log_set(r, f->path, "true", f->name, rank);
    else if (is_one_of(v, off))
        log_set(r, f->path, "false", f->name, rank);
    else if (strcmp(v, "auto") != 0)
        return bad_value(r, f, v, "on, off or auto");
    return true;
}

static bool set_layers(struct log_reader *r, const struct log_flag *f, const char *v,
                       enum log_rank rank)
{
    uint64_t n;

    if (not_set(v) || !strcmp(v, "all") || v[0] == '-')
        return true;
    if (unit_parse_u64(v, &n) != UNIT_OK)
        return bad_value(r, f, v, "a number of layers, auto or all");
    log_set(r, f->path, n > 4096 ? "4096" : v, f->name, rank);
    return true;
}

static bool set_whole(struct log_reader *r, const struct log_flag *f, const char *v,
                      enum log_rank rank)
{
    uint64_t n;

    if (not_set(v))
        return true;
    if (f->kind == FLAG_COUNT || f->engine != LOG_VLLM ? unit_parse_u64(v, &n) != UNIT_OK
                                                       : !human(v, &n))
        return bad_value(r, f, v, "a whole number");
    if (n) /* 0: as the model or the engine says */
        log_set(r, f->path, arena_printf(r->arena, "%llu", (unsigned long long)n), f->name,
                rank);
    return true;
}

static bool set_weights(struct log_reader *r, const struct log_flag *f, const char *v,
                        enum log_rank rank)
{
    if (f->kind == FLAG_DTYPE && (!strcmp(v, "float32") || !strcmp(v, "float")))
        log_set(r, f->path, "fp32", f->name, rank);
    else if (f->kind == FLAG_QUANT && rank == LOG_FLAG && !strcmp(v, "fp8"))
        log_set(r, f->path, "fp8", f->name, rank);
    return true; /* other checkpoints say it themselves */
}

bool log_flag_set(struct log_reader *r, const struct log_flag *f, const char *v,
                  enum log_rank rank)
{
    double share;

    switch (f->kind) {
    case FLAG_COUNT:
    case FLAG_TOKENS:
    case FLAG_MEMORY: return set_whole(r, f, v, rank);
    case FLAG_NUMBER:
        if (not_set(v))
            return true;
        if (unit_parse_double(v, &share) != UNIT_OK || share <= 0 || share > 1)
            return bad_value(r, f, v, "a share above 0 and up to 1");
        log_set(r, f->path, v, f->name, rank);
        return true;
    case FLAG_MODEL:
        if (!not_set(v))
            log_model(r, v, f->name, rank);
        return true;
    case FLAG_CACHE:
        if (cache_name(v))
            log_set(r, f->path, cache_name(v), f->name, rank);
        return true;
    case FLAG_CACHE_GGML: return set_cache_ggml(r, f, v);
    case FLAG_DTYPE:
    case FLAG_QUANT: return set_weights(r, f, v, rank);
    case FLAG_CHOICE: return set_choice(r, f, v, rank);
    case FLAG_LAYERS: return set_layers(r, f, v, rank);
    case FLAG_YES: log_set(r, f->path, "true", f->name, rank); return true;
    case FLAG_NO: log_set(r, f->path, "false", f->name, rank); return true;
    case FLAG_UNPLANNED:
        return diag_add(r->diag, DIAG_WARN, r->at,
                        "%s changes the memory of %s and is not planned", f->name,
                        log_engine_title(f->engine));
    }
    return true;
}

/* --- lists ----------------------------------------------------------------------------------
 */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_';
}

static bool names_key(const char *option, const char *key, size_t n)
{
    if (!option || option[0] != '-' || option[1] != '-' || strlen(option + 2) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((option[2 + i] == '-' ? '_' : option[2 + i]) != key[i])
            return false;
    return true;
}

/* The value behind `key=` or `'key': `, without its quotes; NULL when there is none. */
static const char *pair_value(struct arena *a, const char *s)
{
    char quote;
    size_t n;

    if (*s == '\'' || *s == '"') {
        s++;
        if (*s != ':')
            return NULL;
        s += 1 + strspn(s + 1, " ");
    } else if (*s == '=') {
        s++;
    } else {
        return NULL;
    }
    quote = *s == '\'' || *s == '"' ? *s++ : '\0';
    n = quote ? strcspn(s, quote == '\'' ? "'" : "\"") : strcspn(s, ",)}] ");
    return n <= 512 ? arena_strndup(a, s, n) : NULL;
}

static void take_pair(struct log_reader *r, const struct log_flag *f, const char *v)
{
    bool truth = f->kind == FLAG_YES || f->kind == FLAG_NO;
    struct diag *loud = r->diag;

    if (truth ? strcmp(v, "True") != 0 : f->kind == FLAG_UNPLANNED || not_set(v))
        return;
    r->diag = diag_new(r->arena); /* what a program prints of itself is no user's mistake */
    (void)!log_flag_set(r, f, v, LOG_PAIR);
    r->diag = loud;
}

void log_pairs(struct log_reader *r, const char *line)
{
    for (const char *s = line; *s;) {
        size_t n = 0;
        const char *v;
        while (is_word(s[n]))
            n++;
        if (!n) {
            s++;
            continue;
        }
        for (size_t i = 0; i < N_FLAGS; i++) {
            const struct log_flag *f = &flags[i];
            if (f->engine != r->engine || s[n] == '\0' ||
                !(names_key(f->name, s, n) || names_key(f->other, s, n)))
                continue;
            v = pair_value(r->arena, s + n);
            if (v)
                take_pair(r, f, v);
            break;
        }
        s += n;
    }
}

/* --- looking up -----------------------------------------------------------------------------
 */

const struct log_flag *log_flag_of(enum log_engine e, const char *word, size_t n)
{
    for (size_t i = 0; i < N_FLAGS; i++) {
        const struct log_flag *f = &flags[i];
        if (f->engine != e)
            continue;
        if ((strlen(f->name) == n && !strncmp(f->name, word, n)) ||
            (f->other && strlen(f->other) == n && !strncmp(f->other, word, n)) ||
            (e != LOG_LLAMACPP && n > 2 && word[1] == '-' &&
             names_key(f->name, word + 2, n - 2)))
            return f;
    }
    return NULL;
}

bool log_flag_takes_value(const struct log_flag *f, const char *next)
{
    if (f->kind == FLAG_YES || f->kind == FLAG_NO || f->kind == FLAG_UNPLANNED)
        return false;
    return f->kind != FLAG_CHOICE || (next && next[0] != '-');
}

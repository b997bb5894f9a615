/* The lines that servers print when they start: one table, a row a form of a line. A new form
 * is a new row. llama.cpp's buffers, which name a device, are read by hand below.
 *
 * source of the forms: vllm/worker/worker.py, vllm/v1/worker/gpu_worker.py,
 * vllm/v1/core/kv_cache_utils.py and vllm/utils/mem_utils.py (0.4 to 2026); sglang
 * model_runner.py and mem_cache/memory_pool.py; TensorRT-LLM kvCacheManager.cpp and
 * _torch/pyexecutor/_util.py; llama.cpp src/llama-context.cpp, llama-kv-cache*.cpp,
 * llama-model.cpp, ggml-cuda.cu. */
#include "planner/plan/fromlog_in.h"

#include <string.h>

enum line_kind {
    LINE_BYTES,   /* a term: a size with its unit */
    LINE_GIB,     /* a term: a number that the row says is GiB */
    LINE_COUNT,   /* a term: a whole number */
    LINE_NUMBER,  /* a term */
    LINE_SET,     /* a setting: a number */
    LINE_SET_GIB, /* a setting: a number of GiB */
    LINE_WORD,    /* a setting: up to a blank, comma or bracket */
    LINE_CACHE_K, /* a setting: a type of cache in llama.cpp's words */
    LINE_CACHE_V,
    LINE_VERSION, /* what the program calls its version */
    LINE_GPU,     /* a setting: up to a comma or bracket */
    LINE_MODEL,
    LINE_KV_HALF, /* a half of SGLang's pool */
    LINE_PAIRS    /* a list of key=value follows */
};

struct line_row {
    enum log_engine engine;
    const char *before; /* a blank: any number of them; '*': anything up to what follows */
    const char *after;  /* NULL = anything */
    enum line_kind kind;
    enum log_many many;
    const char *path;
};

#define PER_GPU "memory.per_gpu."

static const char printed[] = "a line it prints";

static const struct line_row rows[] = {
    /* vLLM */
    {LOG_VLLM, "vLLM API server version ", NULL, LINE_VERSION, LOG_LAST, NULL},
    {LOG_VLLM, "LLM engine (v", NULL, LINE_VERSION, LOG_LAST, NULL},
    {LOG_VLLM, "LLM engine (v* with config:", NULL, LINE_PAIRS, LOG_LAST, NULL},
    {LOG_VLLM, "non-default args:", NULL, LINE_PAIRS, LOG_LAST, NULL},
    {LOG_VLLM, "model weights take ", NULL, LINE_BYTES, LOG_LARGEST, PER_GPU "weights_bytes"},
    {LOG_VLLM, "Model loading took ", NULL, LINE_BYTES, LOG_LARGEST, PER_GPU "weights_bytes"},
    {LOG_VLLM, "Loading model weights took ", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "weights_bytes"},
    {LOG_VLLM, "; weights memory: ", NULL, LINE_BYTES, LOG_LARGEST, PER_GPU "weights_bytes"},
    {LOG_VLLM, "Actual usage is ", " GiB for weight", LINE_GIB, LOG_LARGEST,
     PER_GPU "weights_bytes"},
    {LOG_VLLM, "PyTorch activation peak memory takes ", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "activation_bytes"},
    {LOG_VLLM, "PyTorch activation peak memory ", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "activation_bytes"},
    {LOG_VLLM, "torch peak memory increase: ", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "activation_bytes"},
    {LOG_VLLM, ", ", " GiB for peak activation", LINE_GIB, LOG_LARGEST,
     PER_GPU "activation_bytes"},
    {LOG_VLLM, "non_torch_memory takes ", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "non_torch_bytes"},
    {LOG_VLLM, "non_torch_memory ", NULL, LINE_BYTES, LOG_LARGEST, PER_GPU "non_torch_bytes"},
    {LOG_VLLM, "non-torch forward increase memory: ", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "non_torch_bytes"},
    {LOG_VLLM, ", ", " GiB for non-torch memory", LINE_GIB, LOG_LARGEST,
     PER_GPU "non_torch_bytes"},
    {LOG_VLLM, "Graph capturing finished in * secs, took ", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "cuda_graph_bytes"},
    {LOG_VLLM, "CUDA graph pool memory: ", " GiB (actual)", LINE_GIB, LOG_LARGEST,
     PER_GPU "cuda_graph_bytes"},
    {LOG_VLLM, "and ", " GiB for CUDAGraph memory", LINE_GIB, LOG_LARGEST,
     PER_GPU "cuda_graph_bytes"},
    {LOG_VLLM, "memory reserved for KV Cache is ", NULL, LINE_BYTES, LOG_SMALLEST,
     PER_GPU "kv_pool_bytes"},
    {LOG_VLLM, "Available KV cache memory: ", NULL, LINE_BYTES, LOG_SMALLEST,
     PER_GPU "kv_pool_bytes"},
    {LOG_VLLM, "available_kv_cache_memory ", NULL, LINE_BYTES, LOG_SMALLEST,
     PER_GPU "kv_pool_bytes"},
    {LOG_VLLM, ", reserved ", " GiB memory for KV Cache", LINE_GIB, LOG_SMALLEST,
     PER_GPU "kv_pool_bytes"},
    {LOG_VLLM, "gpu_memory_utilization (*) = ", NULL, LINE_BYTES, LOG_SMALLEST,
     PER_GPU "usable_bytes"},
    {LOG_VLLM, "the current vLLM instance can use ", NULL, LINE_BYTES, LOG_SMALLEST,
     PER_GPU "usable_bytes"},
    {LOG_VLLM, "Requested memory: * (util), ", NULL, LINE_BYTES, LOG_SMALLEST,
     PER_GPU "usable_bytes"},
    {LOG_VLLM, "Desired GPU memory utilization is (*, ", " GiB)", LINE_GIB, LOG_SMALLEST,
     PER_GPU "usable_bytes"},
    {LOG_VLLM, "peak_torch_memory=*, non_torch_memory=", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "non_torch_bytes"},
    {LOG_VLLM, "non_torch_memory=*, kv_cache_size=", NULL, LINE_BYTES, LOG_SMALLEST,
     PER_GPU "kv_pool_bytes"},
    {LOG_VLLM, "kv_cache_size=*, gpu_memory_utilization=", NULL, LINE_SET, LOG_LAST,
     "engine.memory_fraction"},
    {LOG_VLLM, "total_gpu_memory=", "GiB", LINE_SET_GIB, LOG_LAST, "hardware.memory"},
    {LOG_VLLM, "total_gpu_memory (", "GiB)", LINE_SET_GIB, LOG_LAST, "hardware.memory"},
    {LOG_VLLM, "total_gpu_memory ", "GiB", LINE_SET_GIB, LOG_LAST, "hardware.memory"},
    {LOG_VLLM, "Free memory on device*(*/", " GiB) on startup", LINE_SET_GIB, LOG_LAST,
     "hardware.memory"},
    {LOG_VLLM, "gpu_memory_utilization (", ")", LINE_SET, LOG_LAST, "engine.memory_fraction"},
    {LOG_VLLM, "Desired GPU memory utilization is (", ",", LINE_SET, LOG_LAST,
     "engine.memory_fraction"},
    {LOG_VLLM, "# GPU blocks: ", NULL, LINE_COUNT, LOG_SMALLEST, "capacity.kv_blocks"},
    {LOG_VLLM, "# cuda blocks: ", NULL, LINE_COUNT, LOG_SMALLEST, "capacity.kv_blocks"},
    {LOG_VLLM, "num_gpu_blocks is: ", NULL, LINE_COUNT, LOG_SMALLEST, "capacity.kv_blocks"},
    {LOG_VLLM, "GPU KV cache size: ", " tokens", LINE_COUNT, LOG_SMALLEST,
     "capacity.kv_tokens"},
    {LOG_VLLM, "Maximum concurrency for * tokens per request: ", "x", LINE_NUMBER, LOG_SMALLEST,
     "capacity.max_concurrency"},
    {LOG_VLLM, "Maximum concurrency for ", " tokens per request", LINE_SET, LOG_LAST,
     "engine.max_model_len"},
    {LOG_VLLM, "Using max model len ", NULL, LINE_SET, LOG_LAST, "engine.max_model_len"},
    {LOG_VLLM, "Chunked prefill is enabled with max_num_batched_tokens=", NULL, LINE_SET,
     LOG_LAST, "engine.max_batched_tokens"},
    /* SGLang; "GB" is 2^30 */
    {LOG_SGLANG, "server_args=ServerArgs(", NULL, LINE_PAIRS, LOG_LAST, NULL},
    {LOG_SGLANG, "max_total_num_tokens=", NULL, LINE_PAIRS, LOG_LAST, NULL},
    {LOG_SGLANG, "max_total_num_tokens=", NULL, LINE_COUNT, LOG_FIRST, "capacity.kv_tokens"},
    {LOG_SGLANG, "Load weight end.*mem usage=", NULL, LINE_BYTES, LOG_FIRST,
     PER_GPU "weights_bytes"},
    {LOG_SGLANG, "KV Cache is allocated.*#tokens: ", NULL, LINE_COUNT, LOG_FIRST,
     "capacity.kv_tokens"},
    {LOG_SGLANG, "KV Cache is allocated.*, K size: ", NULL, LINE_KV_HALF, LOG_FIRST, "k"},
    {LOG_SGLANG, "KV Cache is allocated.*, V size: ", NULL, LINE_KV_HALF, LOG_FIRST, "v"},
    {LOG_SGLANG, "KV Cache is allocated.*, KV size: ", NULL, LINE_BYTES, LOG_FIRST,
     PER_GPU "kv_pool_bytes"},
    {LOG_SGLANG, "SWAKVPool mem usage: ", NULL, LINE_BYTES, LOG_LAST, PER_GPU "kv_pool_bytes"},
    {LOG_SGLANG, "Capture *cuda graph end.*mem usage=", NULL, LINE_BYTES, LOG_FIRST,
     PER_GPU "cuda_graph_bytes"},
    /* TensorRT-LLM: the PyTorch backend allocates a small pool first, the last one counts */
    {LOG_TRTLLM, "TensorRT-LLM version: ", NULL, LINE_VERSION, LOG_LAST, NULL},
    {LOG_TRTLLM, "[MemUsageChange] Allocated ", " GiB for max tokens in paged KV cache",
     LINE_GIB, LOG_LAST, PER_GPU "kv_pool_bytes"},
    {LOG_TRTLLM, " GiB for max tokens in paged KV cache (", ")", LINE_COUNT, LOG_LAST,
     "capacity.kv_tokens"},
    {LOG_TRTLLM, "max tokens in paged kv cache: total: ", " GiB", LINE_SET_GIB, LOG_LAST,
     "hardware.memory"},
    {LOG_TRTLLM, "device total memory ", " GiB", LINE_SET_GIB, LOG_LAST, "hardware.memory"},
    {LOG_TRTLLM, "Number of blocks in KV cache primary pool: ", NULL, LINE_COUNT, LOG_LAST,
     "capacity.kv_blocks"},
    {LOG_TRTLLM, "Number of tokens per block: ", NULL, LINE_SET, LOG_LAST,
     "engine.block_tokens"},
    {LOG_TRTLLM, "Loaded engine size: ", NULL, LINE_BYTES, LOG_LARGEST,
     PER_GPU "weights_bytes"},
    {LOG_TRTLLM, "loading model weights (inside torch) in memory usage profiling: ", NULL,
     LINE_BYTES, LOG_LARGEST, PER_GPU "weights_bytes"},
    {LOG_TRTLLM, "loading model weights (outside torch) in memory usage profiling: ", NULL,
     LINE_BYTES, LOG_LARGEST, PER_GPU "non_torch_bytes"},
    {LOG_TRTLLM, "allocated during inference (inside torch) in memory usage profiling: ", NULL,
     LINE_BYTES, LOG_LARGEST, PER_GPU "activation_bytes"},
    {LOG_TRTLLM, "available KV cache memory when calculating max tokens: ", NULL, LINE_BYTES,
     LOG_LAST, PER_GPU "kv_pool_bytes"},
    {LOG_TRTLLM, "calculating max tokens:*fraction is set ", NULL, LINE_SET, LOG_LAST,
     "engine.memory_fraction"},
    {LOG_TRTLLM, "max_seq_len=*, max_num_requests=*, max_num_tokens=", NULL, LINE_PAIRS,
     LOG_LAST, NULL},
    /* llama.cpp */
    {LOG_LLAMACPP, "K (", "):", LINE_CACHE_K, LOG_LAST, "cache.k"},
    {LOG_LLAMACPP, "V (", "):", LINE_CACHE_V, LOG_LAST, "cache.v"},
    {LOG_LLAMACPP, " seqs), K (*): ", NULL, LINE_BYTES, LOG_SUM, "cache.k_bytes"},
    {LOG_LLAMACPP, " seqs), K (*V (*): ", NULL, LINE_BYTES, LOG_SUM, "cache.v_bytes"},
    {LOG_LLAMACPP, "KV self size = *K (*): ", NULL, LINE_BYTES, LOG_SUM, "cache.k_bytes"},
    {LOG_LLAMACPP, "KV self size = *V (*): ", NULL, LINE_BYTES, LOG_SUM, "cache.v_bytes"},
    {LOG_LLAMACPP, "llama*: n_ctx = ", NULL, LINE_SET, LOG_FIRST, "engine.max_model_len"},
    {LOG_LLAMACPP, "llama*: n_seq_max = ", NULL, LINE_SET, LOG_FIRST, "engine.n_seq"},
    {LOG_LLAMACPP, "llama*: n_batch = ", NULL, LINE_SET, LOG_FIRST, "engine.n_batch"},
    {LOG_LLAMACPP, "llama*: n_ubatch = ", NULL, LINE_SET, LOG_FIRST, "engine.n_ubatch"},
    {LOG_LLAMACPP, "llama_context: kv_unified = ", NULL, LINE_WORD, LOG_LAST,
     "engine.kv_unified"},
    {LOG_LLAMACPP, "llama*: flash_attn = ", NULL, LINE_WORD, LOG_LAST, "engine.flash_attn"},
    {LOG_LLAMACPP, "Flash Attention was auto, set to ", NULL, LINE_WORD, LOG_LAST,
     "engine.flash_attn"},
    {LOG_LLAMACPP, "offloaded ", "/", LINE_SET, LOG_LAST, "engine.offload_layers"},
    {LOG_LLAMACPP, "general.name = ", NULL, LINE_MODEL, LOG_LAST, "model"},
    {LOG_LLAMACPP, "llama_model_loader: loaded meta data*from ", NULL, LINE_MODEL, LOG_LAST,
     "model"},
    {LOG_LLAMACPP, "build: ", NULL, LINE_VERSION, LOG_LAST, NULL},
    {LOG_LLAMACPP, "build_info: ", NULL, LINE_VERSION, LOG_LAST, NULL},
    {LOG_LLAMACPP, "ggml_cuda_init: found ", " CUDA devices", LINE_SET, LOG_LAST, "_devices"},
    {LOG_LLAMACPP, "using device *(", ")", LINE_GPU, LOG_LAST, "hardware.gpu"},
    {LOG_LLAMACPP, "Device 0: ", ", compute capability", LINE_GPU, LOG_LAST, "hardware.gpu"},
    /* the reports of an environment, and nvidia-smi -L */
    {LOG_ANY, "GPU 0: ", NULL, LINE_GPU, LOG_LAST, "hardware.gpu"},
};
enum { N_ROWS = sizeof rows / sizeof *rows, SHORT_WORDS = 10 };

/* --- matching -------------------------------------------------------------------------------
 */

/* The end of the pattern's words at `s`, or NULL. */
static const char *literal(const char *s, const char *p, const char *p_end)
{
    for (; p < p_end; p++) {
        if (*p == ' ') {
            s += strspn(s, " ");
            continue;
        }
        if (*s++ != *p)
            return NULL;
    }
    return s;
}

/* Behind the first place at or after `s` where these words stand. */
static const char *find(const char *s, const char *p, const char *p_end)
{
    while (p < p_end && *p == ' ')
        p++;
    for (; p < p_end && (s = strchr(s, *p)) != NULL; s++) {
        const char *end = literal(s, p, p_end);
        if (end)
            return end;
    }
    return p < p_end ? NULL : s;
}

/* Behind the next place where the last words of the pattern stand, those before it passed once;
 * *last is where to look on. */
static const char *find_before(const char *line, const char *pattern, const char **last)
{
    for (const char *star; (star = strchr(pattern, '*')) != NULL; pattern = star + 1) {
        line = find(line, pattern, star);
        if (!line)
            return NULL;
    }
    *last = pattern;
    return find(line, pattern, pattern + strlen(pattern));
}

static bool stands(const char *s, const char *after)
{
    return !after || literal(s, after, after + strlen(after));
}

/* --- what rows do ---------------------------------------------------------------------------
 */

static bool take_size(struct log_reader *r, const struct line_row *row, const char *s)
{
    double bytes = 0, resolution = 0;
    char digits[32], text[48];
    unsigned decimals;
    const char *end;

    if (row->kind == LINE_BYTES || row->kind == LINE_KV_HALF) {
        end = log_bytes(s, &bytes, &resolution);
    } else {
        end = log_number(s, digits, sizeof digits, &decimals);
        snprintf(text, sizeof text, "%sGiB", end ? digits : "");
        if (!end || !log_bytes(text, &bytes, &resolution))
            return false;
    }
    if (!end || !stands(end, row->after) || !log_speaks(r, row->engine))
        return false;
    if (row->kind != LINE_KV_HALF) {
        log_measure(r, row->path, bytes, resolution, row->many);
        return true;
    }
    if (*row->path == 'k' && r->k_bytes <= 0)
        r->k_bytes = bytes;
    else if (*row->path == 'v' && r->v_bytes <= 0)
        r->v_bytes = bytes;
    r->kv_resolution = 2 * resolution;
    r->kv_printed = true;
    return true;
}

/* A zero stands for "not set" but where it counts layers; of several contexts (a draft model's)
 * the first counts. */
static void set_number(struct log_reader *r, const struct line_row *row, const char *digits)
{
    bool nothing = strspn(digits, "0.") == strlen(digits);

    if (nothing && strcmp(row->path, "engine.offload_layers") != 0)
        return;
    if (row->many == LOG_FIRST && log_setting(r->log, row->path))
        return;
    log_set(r, row->path, digits, printed, LOG_PRINTED);
}

static bool take_number(struct log_reader *r, const struct line_row *row, const char *s)
{
    char digits[32];
    unsigned decimals;
    const char *end = log_number(s, digits, sizeof digits, &decimals);
    uint64_t whole = 0;
    double v = 0, resolution = 0.5;

    if (!end || !stands(end, row->after))
        return false;
    if (row->kind == LINE_COUNT ? unit_parse_u64(digits, &whole) != UNIT_OK
                                : unit_parse_double(digits, &v) != UNIT_OK)
        return false;
    if (!log_speaks(r, row->engine))
        return false;
    for (unsigned i = 0; i < decimals; i++)
        resolution /= 10;
    if (row->kind == LINE_SET)
        set_number(r, row, digits);
    else if (row->kind == LINE_COUNT)
        log_measure(r, row->path, (double)whole, 0, row->many);
    else
        log_measure(r, row->path, v, resolution, row->many);
    return true;
}

static bool take_memory(struct log_reader *r, const struct line_row *row, const char *s)
{
    char digits[32], text[48];
    unsigned decimals;
    const char *end = log_number(s, digits, sizeof digits, &decimals);
    double bytes, resolution;

    if (!end || !stands(end, row->after))
        return false;
    snprintf(text, sizeof text, "%sGiB", digits);
    if (!log_bytes(text, &bytes, &resolution) || bytes < 1 || !log_speaks(r, row->engine))
        return false;
    log_set(r, row->path, text, printed, LOG_PRINTED);
    return true;
}

/* Words in place of numbers. */
static bool take_word(struct log_reader *r, const struct line_row *row, const char *s)
{
    static const struct {
        const char *word, *value;
    } truths[] = {{"true", "true"},   {"1", "true"},  {"enabled", "true"},
                  {"false", "false"}, {"0", "false"}, {"disabled", "false"}};
    bool name = row->kind == LINE_GPU || row->kind == LINE_MODEL;
    size_t n = strcspn(s, name ? ",()" : " ,)");
    const char *word;

    while (n && s[n - 1] == ' ')
        n--;
    if (!n || n > 200 || !stands(s + n, row->after))
        return false;
    if (row->kind == LINE_GPU && (s[0] < 'A' || s[0] > 'Z'))
        return false;
    word = arena_strndup(r->arena, s, n);
    if (row->kind == LINE_WORD) {
        for (size_t i = 0; i < sizeof truths / sizeof *truths; i++)
            if (!strcmp(word, truths[i].word) && log_speaks(r, row->engine))
                log_set(r, row->path, truths[i].value, printed, LOG_PRINTED);
    } else if (!log_speaks(r, row->engine)) {
        return false;
    } else if (row->kind == LINE_VERSION) {
        r->log->version = *word == 'v' ? word + 1 : word;
    } else if (row->kind == LINE_MODEL) {
        log_model(r, word, printed, LOG_PRINTED);
    } else {
        if (row->kind != LINE_GPU)
            word = !strcmp(word, "f16") ? "fp16" : !strcmp(word, "f32") ? "fp32" : word;
        log_set(r, row->path, word, printed, LOG_PRINTED);
    }
    return true;
}

static bool take_row(struct log_reader *r, const struct line_row *row, const char *s)
{
    switch (row->kind) {
    case LINE_BYTES:
    case LINE_GIB:
    case LINE_KV_HALF: return take_size(r, row, s);
    case LINE_COUNT:
    case LINE_NUMBER:
    case LINE_SET: return take_number(r, row, s);
    case LINE_SET_GIB: return take_memory(r, row, s);
    case LINE_PAIRS:
        if (log_speaks(r, row->engine))
            log_pairs(r, r->line);
        return true;
    case LINE_WORD:
    case LINE_CACHE_K:
    case LINE_CACHE_V:
    case LINE_VERSION:
    case LINE_GPU:
    case LINE_MODEL: return take_word(r, row, s);
    }
    return false;
}

/* --- llama.cpp ------------------------------------------------------------------------------
 */

/* Devices with memory of their own: the name and a number. */
static bool gpu_device(const char *word, size_t n, uint64_t *index)
{
    static const char *const names[] = {"CUDA", "ROCm", "Vulkan", "SYCL", "MTL", "CANN"};
    const char *digits;

    *index = 0;
    if (n == 5 && !strncmp(word, "Metal", 5))
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t k = strlen(names[i]);
        char number[8] = "";
        if (n <= k || n - k >= sizeof number || strncmp(word, names[i], k) != 0)
            continue;
        digits = word + k;
        memcpy(number, digits, n - k);
        return unit_parse_u64(number, index) == UNIT_OK && *index < 1024;
    }
    return false;
}

/* "load_tensors: CUDA0 model buffer size = 4403.49 MiB": what the buffer is for, and before it
 * the device. Several caches on one device (sliding windows) and their like add up. */
static void take_buffer(struct log_reader *r, const char *line)
{
    static const struct {
        const char *word, *term;
        enum log_many many;
    } kinds[] = {{" model buffer size", "weights_bytes", LOG_SUM},
                 {" KV buffer size", "kv_pool_bytes", LOG_SUM},
                 {" RS buffer size", "state_bytes", LOG_SUM},
                 {" compute buffer size", "workspace_bytes", LOG_LAST}};
    static const char equals[] = " = ";
    double bytes, resolution;
    uint64_t device;

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *at = strstr(line, kinds[i].word), *start = at, *value;
        if (!at)
            continue;
        value = literal(at, kinds[i].word, kinds[i].word + strlen(kinds[i].word));
        value = value ? literal(value, equals, equals + strlen(equals)) : NULL;
        while (start > line && start[-1] != ' ')
            start--;
        if (!value || !log_bytes(value, &bytes, &resolution) || !log_speaks(r, LOG_LLAMACPP) ||
            !gpu_device(start, (size_t)(at - start), &device))
            continue;
        log_measure(r,
                    arena_printf(r->arena, "memory.gpus.%llu.%s", (unsigned long long)device,
                                 kinds[i].term),
                    bytes, resolution, kinds[i].many);
    }
}

/* The rules of llama.cpp go by month; the form of a line tells which: "KV self size" until
 * spring 2025, one number of sequences until July, two of them under the old name until autumn,
 * buffers reserved by the scheduler since 2026. */
static void take_period(struct log_reader *r, const char *line)
{
    const char *month = NULL, *seqs = strstr(line, " seqs), K (");
    bool streams = false;

    if (seqs && strstr(line, "llama_kv_cache_unified")) {
        while (seqs > line && seqs[-1] != ',')
            streams |= *--seqs == '/';
        month = streams ? "2025-08" : "2025-06";
    } else if (strstr(line, "KV self size")) {
        month = "2025-04";
    } else if (strstr(line, "llama_context:") && strstr(line, " compute buffer size") &&
               !log_setting(r->log, "engine.version")) {
        month = "2025-11";
    }
    if (month && r->engine == LOG_LLAMACPP)
        log_set(r, "engine.version", month, "the form of the log's lines", LOG_PRINTED);
}

/* Short words count only where their engine is known to speak. */
static bool may_stand(const struct log_reader *r, const struct line_row *row)
{
    return row->engine == LOG_ANY || row->engine == r->engine ||
           strlen(row->before) > SHORT_WORDS;
}

void log_line(struct log_reader *r, const char *line)
{
    r->line = line;
    for (int i = 0; i < N_ROWS && !r->failed; i++) {
        const char *last, *s;
        if (!may_stand(r, &rows[i]))
            continue;
        s = find_before(line, rows[i].before, &last);
        while (s && !take_row(r, &rows[i], s) && !r->failed)
            s = find(s, last, last + strlen(last));
    }
    if (!r->failed && strstr(line, "buffer size"))
        take_buffer(r, line);
    if (!r->failed && r->engine == LOG_LLAMACPP)
        take_period(r, line);
}

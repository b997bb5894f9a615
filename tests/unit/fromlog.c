/* Logs and command lines of servers: every form of a line, every option, every message, and
 * what a spec becomes with a log under it. The lines are our own, in the forms that servers
 * print. */
#include "planner/plan/fromlog.h"

#include <stdio.h>
#include <string.h>

#include "tests/kvcmd.h"

#define GIB 1073741824.0
#define MIB 1048576.0

static struct server_log *read_text(struct kt *t, const char *text, bool want)
{
    struct server_log *log = ARENA_NEW(t->a, struct server_log, 1);
    bool ok = fromlog_read(t->a, "s.log", text, strlen(text), t->d, log);

    if (ok != want) {
        fprintf(stderr, "%s\n", text);
        diag_print(t->d, 0, true, stderr);
    }
    assert_int_equal(ok, want);
    return log;
}

static double term(const struct server_log *log, const char *path)
{
    for (size_t i = 0; i < log->n_terms; i++)
        if (!strcmp(log->terms[i].path, path))
            return log->terms[i].value;
    fail_msg("no term %s", path);
    return 0;
}

static const char *setting(const struct server_log *log, const char *path)
{
    for (size_t i = 0; i < log->n_settings; i++)
        if (!strcmp(log->settings[i].path, path))
            return log->settings[i].value;
    return "";
}

struct form {
    const char *engine, *line, *path;
    double value;
};

static const struct form forms[] = {
    {"vllm", "INFO x.py:1] Model loading took 14.9889 GiB and 3.65 seconds",
     "memory.per_gpu.weights_bytes", 16094208826},
    {"vllm", "INFO x.py:1] Loading model weights took 7.5 GB", "memory.per_gpu.weights_bytes",
     7.5 * GIB},
    {"vllm",
     "model weights take 14.5GiB; non_torch_memory takes 0.25GiB; PyTorch "
     "activation peak memory takes 1.25GiB; the rest of the memory reserved for KV "
     "Cache is 48.5GiB.",
     "memory.per_gpu.kv_pool_bytes", 48.5 * GIB},
    {"vllm", "model weights take 14.5GiB; non_torch_memory takes 0.25GiB; x",
     "memory.per_gpu.non_torch_bytes", 0.25 * GIB},
    {"vllm", "] PyTorch activation peak memory       1.25GiB",
     "memory.per_gpu.activation_bytes", 1.25 * GIB},
    {"vllm", "] available_kv_cache_memory    53.5GiB", "memory.per_gpu.kv_pool_bytes",
     53.5 * GIB},
    {"vllm",
     "Memory profiling results: total_gpu_memory=44.5GiB, initial_memory_usage=18."
     "5GiB, peak_torch_memory=19.5GiB, non_torch_memory=0.5GiB, kv_cache_size=17.5"
     "GiB, gpu_memory_utilization=0.85.",
     "memory.per_gpu.kv_pool_bytes", 17.5 * GIB},
    {"vllm",
     "Memory profiling takes 5 seconds. Total non KV cache memory: 17.5GiB; torch "
     "peak memory increase: 1.5GiB; non-torch forward increase memory: 0.5GiB; "
     "weights memory: 15.5GiB.",
     "memory.per_gpu.weights_bytes", 15.5 * GIB},
    {"vllm",
     "Actual usage is 15.25 GiB for weight, 2.5 GiB for peak activation, 0.25 GiB for "
     "non-torch memory, and 0.75 GiB for CUDAGraph memory.",
     "memory.per_gpu.activation_bytes", 2.5 * GIB},
    {"vllm",
     "Actual usage is 15.25 GiB for weight, 2.5 GiB for peak activation, 0.25 GiB for "
     "non-torch memory, and 0.75 GiB for CUDAGraph memory.",
     "memory.per_gpu.cuda_graph_bytes", 0.75 * GIB},
    {"vllm", "Graph capturing finished in 20 secs, took 0.5 GiB",
     "memory.per_gpu.cuda_graph_bytes", 0.5 * GIB},
    {"vllm", "CUDA graph pool memory: 0.5 GiB (actual), 0.75 GiB (estimated)",
     "memory.per_gpu.cuda_graph_bytes", 0.5 * GIB},
    {"vllm", "Available KV cache memory: 58.5 GiB", "memory.per_gpu.kv_pool_bytes", 58.5 * GIB},
    {"vllm", "Initial free memory 31.5 GiB, reserved 1.5 GiB memory for KV Cache as specified",
     "memory.per_gpu.kv_pool_bytes", 1.5 * GIB},
    {"vllm",
     "the current vLLM instance can use total_gpu_memory (79.5GiB) x "
     "gpu_memory_utilization (0.90) = 71.5GiB",
     "memory.per_gpu.usable_bytes", 71.5 * GIB},
    {"vllm", "Initial free memory: 78.5 GiB; Requested memory: 0.95 (util), 75.5 GiB",
     "memory.per_gpu.usable_bytes", 75.5 * GIB},
    {"vllm", "# GPU blocks: 29752, # CPU blocks: 2048", "capacity.kv_blocks", 29752},
    {"vllm", "# cuda blocks: 1381, # CPU blocks: 0", "capacity.kv_blocks", 1381},
    {"vllm", "cache_config_info with initialization after num_gpu_blocks is: 29751",
     "capacity.kv_blocks", 29751},
    {"vllm", "GPU KV cache size: 1,476,032 tokens", "capacity.kv_tokens", 1476032},
    {"vllm", "Maximum concurrency for 8,192 tokens per request: 58.11x",
     "capacity.max_concurrency", 58.11},
    {"sglang", "[x TP0] Load weight end. type=A, avail mem=6.00 GB, mem usage=15.5 GB.",
     "memory.per_gpu.weights_bytes", 15.5 * GIB},
    {"sglang",
     "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 20480, K size: 1.25 "
     "GB, V size: 1.5 GB",
     "memory.per_gpu.kv_pool_bytes", 2.75 * GIB},
    {"sglang", "KV Cache is allocated. #tokens: 314304, KV size: 29.5 GB",
     "memory.per_gpu.kv_pool_bytes", 29.5 * GIB},
    {"sglang", "SWAKVPool mem usage: 36.5 GB, swa size: 171008, full size: 213761",
     "memory.per_gpu.kv_pool_bytes", 36.5 * GIB},
    {"sglang",
     "Capture target decode CUDA graph end. x\n"
     "Capture cuda graph end. Time elapsed: 8 s. mem usage=1.5 GB.",
     "memory.per_gpu.cuda_graph_bytes", 1.5 * GIB},
    {"sglang", "max_total_num_tokens=829000, chunked_prefill_size=8192, context_len=40960",
     "capacity.kv_tokens", 829000},
    {"trtllm", "[MemUsageChange] Allocated 58.5 GiB for max tokens in paged KV cache (476032).",
     "memory.per_gpu.kv_pool_bytes", 58.5 * GIB},
    {"trtllm", "[MemUsageChange] Allocated 58.5 GiB for max tokens in paged KV cache (476032).",
     "capacity.kv_tokens", 476032},
    {"trtllm", "Number of blocks in KV cache primary pool: 4607", "capacity.kv_blocks", 4607},
    {"trtllm", "Loaded engine size: 15360 MiB", "memory.per_gpu.weights_bytes", 15 * GIB},
    {"trtllm",
     "Memory used after loading model weights (inside torch) in memory usage "
     "profiling: 16.5 GiB",
     "memory.per_gpu.weights_bytes", 16.5 * GIB},
    {"trtllm",
     "Memory used after loading model weights (outside torch) in memory usage "
     "profiling: 2.5 GiB",
     "memory.per_gpu.non_torch_bytes", 2.5 * GIB},
    {"trtllm",
     "Memory dynamically allocated during inference (inside torch) in memory usage "
     "profiling: 0.5 GiB",
     "memory.per_gpu.activation_bytes", 0.5 * GIB},
    {"llamacpp",
     "llama_kv_cache: size = 1024.00 MiB ( 8192 cells,  32 layers,  1/1 seqs), K "
     "(f16):  512.00 MiB, V (q8_0):  272.00 MiB",
     "cache.v_bytes", 272 * MIB},
    {"llamacpp",
     "llama_init: KV self size  = 1024.00 MiB, K (f16):  512.00 MiB, V (f16):  "
     "512.00 MiB",
     "cache.k_bytes", 512 * MIB},
    {"llamacpp", "load_tensors:        CUDA0 model buffer size =  4403.50 MiB",
     "memory.gpus.0.weights_bytes", 4403.5 * MIB},
    {"llamacpp", "llama_kv_cache:      ROCm1 KV buffer size =  512.00 MiB",
     "memory.gpus.1.kv_pool_bytes", 512 * MIB},
    {"llamacpp", "llama_memory_recurrent:      Metal RS buffer size =    50.25 MiB",
     "memory.gpus.0.state_bytes", 50.25 * MIB},
    {"llamacpp", "sched_reserve:    Vulkan0 compute buffer size =   568.50 MiB",
     "memory.gpus.0.workspace_bytes", 568.5 * MIB},
};

/* Each line alone tells its engine and its term. */
static void test_terms(void **state)
{
    struct kt *t = *state;

    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct server_log *log = read_text(t, forms[i].line, true);
        kt_same(log->engine, forms[i].engine);
        kt_rel(term(log, forms[i].path), forms[i].value, 1e-12);
    }
}

/* Ranks that differ, several caches of one device, and a second start inside one. */
static void test_many(void **state)
{
    struct kt *t = *state;
    struct server_log *log = read_text(
        t,
        "(TP0) Available KV cache memory: 2.50 GiB\n(TP1) Available KV cache memory: 2.25 GiB\n"
        "model weights take 15.0GiB;\nModel loading took 14.9375 GiB\n"
        "(TP1) Model loading took 14.9376 GiB\n",
        true);

    kt_rel(term(log, "memory.per_gpu.kv_pool_bytes"), 2.25 * GIB, 0);
    kt_rel(term(log, "memory.per_gpu.weights_bytes"), 14.9376 * GIB, 1e-9);
    log = read_text(
        t,
        "llama_kv_cache: CUDA0 KV buffer size = 12.00 MiB\n"
        "llama_kv_cache: size = 12.00 MiB ( 4096 cells, 3 layers, 1/1 seqs), K (f16): 6.00 MiB, "
        "V (f16): 6.00 MiB\n"
        "llama_kv_cache: CUDA0 KV buffer size = 15.00 MiB\n"
        "llama_kv_cache: size = 15.00 MiB ( 1024 cells, 15 layers, 1/1 seqs), K (f16): 7.50 MiB, "
        "V (f16): 7.50 MiB\n"
        "llama_context: CPU compute buffer size = 1.00 MiB\n",
        true);
    kt_rel(term(log, "cache.k_bytes"), 13.5 * MIB, 0);
    kt_rel(term(log, "memory.gpus.0.kv_pool_bytes"), 27 * MIB, 0);
    kt_u64(log->n_terms, 3);
    log = read_text(
        t,
        "[MemUsageChange] Allocated 1.00 GiB for max tokens in paged KV cache (8224)\n"
        "[MemUsageChange] Allocated 9.00 GiB for max tokens in paged KV cache (74016)",
        true);
    kt_rel(term(log, "memory.per_gpu.kv_pool_bytes"), 9 * GIB, 0);
    kt_rel(term(log, "capacity.kv_tokens"), 74016, 0);
}

struct asked {
    const char *line, *path, *value;
};

static const struct asked asked[] = {
    {"vllm serve m --max-model-len 8k", "engine.max_model_len", "8000"},
    {"vllm serve m --max-model-len=25.6K", "engine.max_model_len", "26214"},
    {"vllm serve m --max_model_len 8192", "engine.max_model_len", "8192"},
    {"$ CUDA_VISIBLE_DEVICES=0 vllm serve m -tp 4", "parallel.tp", "4"},
    {"vllm serve m -tp=4", "parallel.tp", "4"},
    {"sudo docker run --gpus all vllm/vllm-openai:v0.11.0 --model m -pp 2", "parallel.pp", "2"},
    {"docker run vllm/vllm-openai:v0.11.0 --model m", "engine.version", "0.11.0"},
    {"python3 -m vllm.entrypoints.openai.api_server --model m --max-num-seqs 64",
     "engine.max_seqs", "64"},
    {"vllm serve m -tp 2 -dp 4 --enable-expert-parallel", "parallel.ep", "8"},
    {"vllm serve m --enforce-eager --port 80 --block-size 32", "engine.block_tokens", "32"},
    {"vllm serve m --enforce-eager", "engine.cuda_graphs", "false"},
    {"vllm serve m --kv-cache-dtype fp8", "cache.format", "fp8_e4m3"},
    {"vllm serve m --kv-cache-dtype auto --dtype float32", "weights.format", "fp32"},
    {"vllm serve m --quantization fp8", "weights.format", "fp8"},
    {"vllm serve m --kv-cache-memory-bytes 2G", "memory.per_gpu.kv_pool_bytes", "2147483648"},
    {"vllm serve m \\\n  --max-num-batched-tokens \\\n 4096", "engine.max_batched_tokens",
     "4096"},
    {"vllm serve m '--max-model-len' \"4096\" & sleep 1", "engine.max_model_len", "4096"},
    {"python -m sglang.launch_server --model-path m --tp 2", "parallel.tp", "2"},
    {"sglang serve --model-path m --mem-fraction-static 0.8", "engine.memory_fraction", "0.8"},
    {"python -m sglang.launch_server --model-path m --disable-cuda-graph", "engine.cuda_graphs",
     "false"},
    {"trtllm-serve m --kv_cache_free_gpu_memory_fraction 0.85", "engine.memory_fraction",
     "0.85"},
    {"trtllm-serve serve m --max_batch_size 64", "engine.max_seqs", "64"},
    {"llama-server -m a.gguf -c 32768 -np 4", "engine.max_model_len", "32768"},
    {"./build/bin/llama-server -m a.gguf -ctk q8_0 -fa on", "cache.k", "q8_0"},
    {"llama-server -m a.gguf -fa -ub 256", "engine.flash_attn", "true"},
    {"llama-server -m a.gguf -fa off", "engine.flash_attn", "false"},
    {"llama-server -m a.gguf -ngl 99999", "engine.offload_layers", "4096"},
    {"llama-server -m a.gguf -ngl all", "engine.offload_layers", ""},
    {"llama-server -m a.gguf -c 0", "engine.max_model_len", ""},
    {"llama-server -m a.gguf --no-kv-unified --swa-full", "engine.swa_full", "true"},
    {"llama-cli -m a.gguf", "engine.n_seq", "1"},
    {"non-default args: {'model': 'm', 'max_model_len': 4096, 'kv_cache_dtype': 'fp8'}",
     "cache.format", "fp8_e4m3"},
    {"Initializing a V1 LLM engine (v0.10.1) with config: model='m', max_seq_len=4096, "
     "enforce_eager=True, tensor_parallel_size=2",
     "engine.max_model_len", "4096"},
    {"Initializing an LLM engine (v0.6.3) with config: model='m', tensor_parallel_size=2",
     "engine.version", "0.6.3"},
    {"Maximum concurrency for 8,192 tokens per request: 2x", "engine.max_model_len", "8192"},
    {"Chunked prefill is enabled with max_num_batched_tokens=2048.",
     "engine.max_batched_tokens", "2048"},
    {"server_args=ServerArgs(model_path='m', context_length=None, tp_size=8, page_size=64)",
     "engine.block_tokens", "64"},
    {"[I] max_seq_len=8192, max_num_requests=64, max_num_tokens=4096, max_batch_size=64",
     "engine.max_batched_tokens", "4096"},
    {"available KV cache memory when calculating max tokens: 41.5 GiB, fraction is set 0.85, x",
     "engine.memory_fraction", "0.85"},
    {"Memory usage when calculating max tokens in paged kv cache: total: 79.10 GiB, "
     "available: 63.62 GiB",
     "hardware.memory", "79.10GiB"},
    {"Free memory on device (78.5/79.25 GiB) on startup. x", "hardware.memory", "79.25GiB"},
    {"llama_context: n_ctx         = 32768", "engine.max_model_len", "32768"},
    {"llama_context: kv_unified    = true", "engine.kv_unified", "true"},
    {"llama_context: flash_attn    = 0", "engine.flash_attn", "false"},
    {"llama_model_loader: loaded meta data with 2 pairs from a.gguf (v)\noffloaded 20/33 layers",
     "engine.offload_layers", "20"},
    {"llama_kv_cache_unified: size = 1.00 MiB ( 256 cells, 1 layers, 1 seqs), K (f16): 1 MiB",
     "engine.version", "2025-06"},
    {"llama_kv_cache_unified: size = 1.00 MiB ( 256 cells, 1 layers, 1/1 seqs), K (f16): 1.0 "
     "MiB",
     "engine.version", "2025-08"},
    {"x: KV self size = 1.00 MiB, K (f16): 0.50 MiB, V (f16): 0.50 MiB", "engine.version",
     "2025-04"},
    {"ggml_cuda_init: found 2 CUDA devices:\n  Device 0: Tesla T4, compute capability 7.5",
     "hardware.gpu", "Tesla T4"},
    {"\033[0;36m(Worker)\033[0;0m GPU KV \033[1mcache size: 16 tokens\nGPU 0: NVIDIA A10G "
     "(UUID: x)",
     "hardware.gpu", "NVIDIA A10G"},
};

static void test_settings(void **state)
{
    struct kt *t = *state;

    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        struct server_log *log = read_text(t, asked[i].line, true);
        if (strcmp(setting(log, asked[i].path), asked[i].value) != 0)
            fail_msg("%s: %s is '%s', not '%s'", asked[i].line, asked[i].path,
                     setting(log, asked[i].path), asked[i].value);
    }
}

/* Each must be refused, or be warned of, with just these words. */
static void says(bool ok, const char *text, const char *want)
{
    struct kt *t = NULL;

    kt_open((void **)&t);
    read_text(t, text, ok);
    kt_printed(t->d, want);
    kt_close((void **)&t);
}

static void test_refused(void **state)
{
    (void)state;
    says(false, "",
         "s.log: error: holds no command line and no start-up line of vLLM, SGLang, "
         "TensorRT-LLM or llama.cpp\n");
    says(false, "hello\nusage: vllm serve MODEL\n",
         "s.log: error: holds no command line and no start-up line of vLLM, SGLang, "
         "TensorRT-LLM or llama.cpp\n");
    says(false, "GPU KV cache size: 16 tokens\n\nmax_total_num_tokens=17\n",
         "s.log:3: error: this line is of SGLang, line 1 is of vLLM: give the log of one "
         "server\n");
    says(false, "vllm serve m --max-num-seqs abc",
         "s.log:1: error: --max-num-seqs of vLLM takes a whole number, found 'abc'\n");
    says(false, "vllm serve m --max-num-seqs --port 3",
         "s.log:1: error: --max-num-seqs of vLLM needs a value\n");
    says(false, "vllm serve m --gpu-memory-utilization 1.5",
         "s.log:1: error: --gpu-memory-utilization of vLLM takes a share above 0 and up to 1, "
         "found '1.5'\n");
    says(false, "llama-server -m a.gguf -ctk fp8",
         "s.log:1: error: --cache-type-k of llama.cpp takes f32, f16, bf16, q8_0, q5_1, q5_0, "
         "q4_1, q4_0 or iq4_nl, found 'fp8'\n");
    says(false, "llama-server -m a.gguf -fa maybe",
         "s.log:1: error: --flash-attn of llama.cpp takes on, off or auto, found 'maybe'\n");
    says(false, "llama-server -m a.gguf -ngl many",
         "s.log:1: error: --n-gpu-layers of llama.cpp takes a number of layers, auto or all, "
         "found 'many'\n");
    says(false,
         "vllm serve m --max-num-batched-tokens 2048 --max-model-len 8192 "
         "--no-enable-chunked-prefill",
         "s.log:1: error: vLLM refuses --max-num-batched-tokens (2048) below --max-model-len "
         "(8192) with --no-enable-chunked-prefill: a prompt has to fit one step\n");
    says(false,
         "python -m sglang.launch_server --model-path m --tp 4 --dp 3 --enable-dp-attention",
         "s.log:1: error: SGLang refuses --enable-dp-attention where --dp-size (3) does not "
         "divide --tp-size (4)\n");
    says(false,
         "python -m sglang.launch_server --model m --chunked-prefill-size 4096 --page-size 96",
         "s.log:1: error: SGLang refuses --chunked-prefill-size (4096) that --page-size (96) "
         "does not divide\n");
}

static void test_warned(void **state)
{
    (void)state;
    says(
        true, "vllm serve m --max-model-len 4096 --max-model-len 8192",
        "s.log:1: warning: --max-model-len 8192 after --max-model-len 4096: the later counts\n");
    says(true, "vllm serve m --enable-lora --cpu-offload-gb 4",
         "s.log:1: warning: --enable-lora changes the memory of vLLM and is not planned\n"
         "s.log:1: warning: --cpu-offload-gb changes the memory of vLLM and is not planned\n");
    says(true, "vllm serve m --kv-cache-memory 1G --gpu-memory-utilization 0.5",
         "s.log:1: warning: vLLM takes the pool from --kv-cache-memory-bytes and leaves "
         "--gpu-memory-utilization (0.5) unused\n");
    says(
        true, "vllm serve m --max-model-len $LEN",
        "s.log:1: warning: --max-model-len is a variable of the shell ($LEN): its value is not "
        "known\n");
    says(
        true, "vLLM API server version mine",
        "s.log:1: warning: version 'mine' is not one that can be ordered: the newest rules are "
        "taken\n");
    says(true, "python -m sglang.launch_server --model m --tp 4 --dp 2 --enable-dp-attention",
         "s.log:1: warning: --enable-dp-attention divides attention over fewer ranks; it is "
         "planned as plain tensor parallelism\n");
}

/* Bytes that no server prints: nothing is taken from them, nothing is read beyond them. */
static void test_hostile(void **state)
{
    static const char *const lines[] = {
        "GPU KV cache size: tokens",
        "GPU KV cache size: 99999999999999999999999999 tokens",
        "GPU KV cache size: 1,2,3 tokens",
        "Available KV cache memory: -3 GiB",
        "Available KV cache memory: nan GiB",
        "Available KV cache memory: 1e9 GiB",
        "Available KV cache memory: 5 apples",
        "CUDA0 model buffer size = MiB",
        "CUDA99999999999 model buffer size = 1 MiB",
        "x model buffer size",
        "server_args=",
        "vllm",
        "\\",
        "$ # >",
    };
    struct kt *t = *state;
    struct server_log log;
    size_t n = (size_t)LOG_LINE_MAX + 4096;
    char *text = arena_alloc(t->a, n + 64, 1);

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct diag *d = diag_new(t->a);
        (void)!fromlog_read(t->a, "s.log", lines[i], strlen(lines[i]), d, &log);
        kt_u64(log.n_terms, 0);
    }
    memset(text, ',', n);
    memcpy(text + n - 40, "\nGPU KV cache size: 16 tokens\n", 30);
    assert_true(fromlog_read(t->a, "s.log", text, n, t->d, &log));
    kt_diag(t->d, "is longer than 65536 bytes: the rest of the line is not read", 1);
    kt_u64(log.n_terms, 1);
    kt_u64((uint64_t)log.terms[0].at.line, 2);
    memcpy(text, "GPU\0KV\x01\xff\n", 10);
    assert_false(fromlog_read(t->a, "s.log", text, 10, diag_new(t->a), &log));
    struct diag *d = diag_new(t->a);
    assert_false(fromlog_read(t->a, "s.log", text, (size_t)LOG_FILE_MAX + 1, d, &log));
    kt_printed(d, "s.log: error: is longer than 16 MiB, the most that is read of a log\n");
}

/* --- under a spec ---------------------------------------------------------------------------
 */

/* Runs `kvbudget report` with the words of `line`, '|' between them; @s.log is the log. */
static struct ran report(struct kt *t, const char *line, const char *log, const char *spec)
{
    char *folder = kt_folder(t->a);
    FILE *f = fopen(arena_printf(t->a, "%s/s.log", folder), "w");
    struct ran r;

    assert_non_null(f);
    fputs(log, f);
    fclose(f);
    r = kvcmd_run(t->a, folder, arena_printf(t->a, "report|%s", line), spec);
    kt_folder_remove(folder);
    return r;
}

static void has(const char *page, const char *part)
{
    if (!strstr(page, part))
        fail_msg("no \"%s\" in\n%s", part, page);
}

#define LINES                                                                                  \
    "vllm serve meta-llama/Llama-3.1-8B --max-model-len 8192 --max-num-seqs 64\n"              \
    "vLLM API server version 0.19.0\nModel loading took 14.99 GiB memory\n"                    \
    "GPU KV cache size: 400,000 tokens\n"

/* Without a spec: model and settings are the log's. With one, its own keys stand. */
static void test_report(void **state)
{
    struct kt *t = *state;
    struct ran r = report(t, "--from-log|@s.log|-g|h100|--format|json", LINES, "");
    double measured = 0, predicted = 0, difference = 0;
    cJSON *json = cJSON_Parse(r.out);

    assert_int_equal(r.status, 0);
    kt_same(json_at(json, "from_log.version")->valuestring, "0.19.0");
    kt_same(json_at(json, "from_log.terms.1.path")->valuestring, "capacity.kv_tokens");
    measured = json_at(json, "from_log.terms.1.measured")->valuedouble;
    predicted = json_at(json, "from_log.terms.1.predicted")->valuedouble;
    difference = json_at(json, "from_log.terms.1.difference")->valuedouble;
    kt_rel(measured, 400000, 0);
    kt_rel(predicted, json_at(json, "capacity.kv_tokens")->valuedouble, 0);
    kt_rel(difference, predicted - measured, 1e-12);
    has(r.out, "\"inputs\"");
    cJSON_Delete(json);

    r = report(t, "-|--from-log|@s.log|--format|table|-v", LINES,
               "model: Qwen3-8B\nhardware: {gpu: h100}\nengine: {max_model_len: 4096}\n");
    assert_int_equal(r.status, 0);
    has(r.out, "Qwen/Qwen3-8B");
    has(r.out, "s.log: vllm 0.19.0");
    has(r.err, "<stdin>:3:25: note: engine.max_model_len is 4096 here and 8192 in the log (");
    has(r.err, "s.log:1: note: engine.max_seqs: 64, from the log (--max-num-seqs)");
}

static void test_report_refused(void **state)
{
    struct kt *t = *state;
    struct ran r = report(t, "-|--from-log|@s.log", LINES,
                          "model: Qwen3-8B\nhardware: {gpu: h100}\nengine: {name: sglang}\n");

    assert_int_equal(r.status, 3);
    has(r.err, "<stdin>:3:16: error: engine.name is sglang, the log ");
    has(r.err, "s.log is of vllm\n");
    r = report(t, "--from-log|@s.log", LINES, "");
    assert_int_equal(r.status, 3);
    has(r.err,
        "error: hardware.gpu (a GPU's name) or hardware.memory (a size such as 24GiB) is "
        "required\n");
    r = report(t, "-|--from-log|-", LINES, "");
    kt_same(r.err, "kvbudget: error: the spec and --from-log cannot both be standard input\n");
    assert_int_equal(r.status, 2);
    r = report(t, "--from-log|/nonexistent", LINES, "");
    kt_same(r.err, "/nonexistent: error: cannot be opened: No such file or directory\n");
    assert_int_equal(r.status, 3);
    /* the engine's own rules speak through the plan */
    r = report(t, "--from-log|@s.log|-m|Llama-3.1-8B|-g|h100",
               "vllm serve m --max-num-batched-tokens 100 --max-num-seqs 200", "");
    assert_int_equal(r.status, 3);
    has(r.err, "error: vLLM refuses max_batched_tokens (100) below max_seqs (200)\n");
    r = report(t, "--from-log|@s.log|-m|Llama-3.1-8B|-g|h100",
               "llama-server -m a.gguf -c 4096 -ctv q8_0 -fa off", "");
    assert_int_equal(r.status, 3);
    has(r.err, "error: llama.cpp quantizes V (q8_0) with flash attention only");
    r = report(t, "--from-log|@s.log|-g|h100", "vllm serve meta-llama/Llama-3.1-8B -tp 3", "");
    assert_int_equal(r.status, 3);
    has(r.err, "error: tp 3 does not divide the 32 query heads of layer 1\n");
}

/* Names as servers are given them, and a file that is not here. */
static void test_models(void **state)
{
    static const char *const commands[] = {
        "llama-server -m /data/Meta-Llama-3.1-8B-Instruct-Q8_0.gguf -c 4096",
        "llama-server -hf bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q8_0 -c 4096",
        "vllm serve /root/hub/models--meta-llama--Llama-3.1-8B-Instruct/snapshots/0abc",
        "vllm serve /models/Llama-3.1-8B-Instruct/ --max-model-len 1024",
    };
    struct kt *t = *state;

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct ran r = report(t, "--from-log|@s.log|-g|h100|--format|table", commands[i], "");
        assert_int_equal(r.status, 0);
        has(r.out, "meta-llama/Llama-3.1-8B-Instruct");
        if (i < 2)
            has(r.out, "q8_0");
        has(r.out, "settings only, no figure that it has measured");
    }
    struct ran r = report(t, "--from-log|@s.log|-g|h100|--format|table",
                          "llama-server -m Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf -c 4096", "");
    has(r.err,
        "warning: a file of type Q4_K_M mixes formats; it is planned as q4_k throughout\n");
    r = report(t, "--from-log|@s.log",
               "vllm serve Qwen3-8B\nGPU 0: Strange Card\n"
               "Free memory on device (78.5/79.25 GiB) on startup.\n",
               "");
    assert_int_equal(r.status, 0);
    has(r.err, "warning: there is no profile of the GPU 'Strange Card'\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_terms),   kt_test(test_many),           kt_test(test_settings),
        kt_test(test_refused), kt_test(test_warned),         kt_test(test_hostile),
        kt_test(test_report),  kt_test(test_report_refused), kt_test(test_models),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

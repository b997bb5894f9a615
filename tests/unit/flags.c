/* flags: what each engine is told for a plan, what it cannot be told, and the command around
 * it. Names of settings are the servers' own (sources in planner/engine/). */
#include "planner/plan/flags.h"

#include <stdlib.h>
#include <string.h>

#include "tests/kvplan.h"

#define MODEL "model: {name: org/small, profile: Llama-3.1-8B}\n"
#define H100 MODEL "hardware: {gpu: h100-sxm-80gb}\n"
#define W8K "workload: {prompt: 7680, output: 512}\n"

/* --- whole commands ------------------------------------------------------------------------
 */

static const struct {
    const char *yaml, *command;
} commands[] = {
    /* vLLM: the defaults of this GPU are said, so that another version takes the same */
    {H100 W8K "engine: {name: vllm}\n",
     "vllm serve org/small --gpu-memory-utilization 0.92 --max-model-len 131072 "
     "--max-num-seqs 1024 --max-num-batched-tokens 8192 --block-size 16"},
    {H100 W8K
     "engine: {name: vllm, version: \"0.19.0\", memory_fraction: 0.95, max_model_len: 8192, "
     "max_seqs: 64, max_batched_tokens: 4096, block_tokens: 32, cuda_graphs: false}\n"
     "cache: {format: fp8_e5m2}\n",
     "vllm serve org/small --gpu-memory-utilization 0.95 --max-model-len 8192 --max-num-seqs 64 "
     "--max-num-batched-tokens 4096 --block-size 32 --kv-cache-dtype fp8_e5m2 --enforce-eager"},
    {MODEL W8K "hardware: {gpu: h100-sxm-80gb, count: 8}\nparallel: {tp: 2, pp: 2, dp: 2}\n"
               "engine: {name: vllm, max_model_len: 8k}\nweights: {format: fp8}\n",
     "vllm serve org/small --gpu-memory-utilization 0.92 --max-model-len 8192 "
     "--max-num-seqs 1024 --max-num-batched-tokens 8192 --block-size 16 --quantization fp8 "
     "--tensor-parallel-size 2 --pipeline-parallel-size 2 --data-parallel-size 2"},
    {MODEL W8K "hardware: {gpu: h100-sxm-80gb, count: 2}\nparallel: {cp: 2}\n"
               "engine: {name: vllm, max_model_len: 8k}\nweights: {format: fp32}\n",
     "vllm serve org/small --gpu-memory-utilization 0.92 --max-model-len 8192 "
     "--max-num-seqs 1024 --max-num-batched-tokens 8192 --block-size 16 --dtype float32 "
     "--prefill-context-parallel-size 2"},
    {H100 W8K "engine: {name: vllm, max_model_len: 8k}\n"
              "weights: {format: nf4, offload_layers: 8}\ncache: {format: bf16}\n",
     "vllm serve org/small --gpu-memory-utilization 0.92 --max-model-len 8192 "
     "--max-num-seqs 1024 --max-num-batched-tokens 8192 --block-size 16 --quantization "
     "bitsandbytes --cpu-offload-gb 1"},
    {H100 W8K "engine: {name: vllm, max_model_len: 8k}\ncache: {format: fp16}\n",
     "vllm serve org/small --gpu-memory-utilization 0.92 --max-model-len 8192 "
     "--max-num-seqs 1024 --max-num-batched-tokens 8192 --block-size 16 --dtype float16"},
    /* SGLang */
    {H100 W8K "engine: {name: sglang}\n",
     "python -m sglang.launch_server --model-path org/small --mem-fraction-static 0.834 "
     "--context-length 131072 --chunked-prefill-size 8192 --page-size 1"},
    {MODEL W8K
     "hardware: {gpu: h100-sxm-80gb, count: 8}\nparallel: {tp: 4, pp: 2}\n"
     "engine: {name: sglang, memory_fraction: 0.8, max_model_len: 16k, max_seqs: 100, "
     "block_tokens: 64, cuda_graphs: false}\ncache: {format: fp8_e4m3}\n",
     "python -m sglang.launch_server --model-path org/small --mem-fraction-static 0.8 "
     "--context-length 16384 --max-running-requests 100 --chunked-prefill-size 8192 "
     "--page-size 64 --kv-cache-dtype fp8_e4m3 --tp-size 4 --pp-size 2 --disable-cuda-graph"},
    {MODEL W8K "hardware: {gpu: h100-sxm-80gb, count: 2}\nparallel: {dp: 2}\n"
               "engine: {name: sglang}\nweights: {format: bf16, offload_layers: 4}\n",
     "python -m sglang.launch_server --model-path org/small --mem-fraction-static 0.834 "
     "--context-length 131072 --chunked-prefill-size 8192 --page-size 1 --dtype bfloat16 "
     "--dp-size 2 --cpu-offload-gb 2"},
    /* TensorRT-LLM */
    {H100 W8K "engine: {name: trtllm}\n",
     "trtllm-serve org/small --kv_cache_free_gpu_memory_fraction 0.9 --max_seq_len 131072 "
     "--max_batch_size 2048 --max_num_tokens 8192"},
    {MODEL W8K "hardware: {gpu: h100-sxm-80gb, count: 8}\nparallel: {tp: 2, pp: 2, cp: 2}\n"
               "engine: {name: trtllm, block_tokens: 64, max_seqs: 256}\n",
     "trtllm-serve org/small --kv_cache_free_gpu_memory_fraction 0.9 --max_seq_len 131072 "
     "--max_batch_size 256 --max_num_tokens 8192 --tp_size 2 --pp_size 2 --cp_size 2 "
     "--extra_llm_api_options trtllm.yaml"},
    {H100 W8K "engine: {name: trtllm, version: \"0.20.0\"}\n",
     "trtllm-serve org/small --kv_cache_free_gpu_memory_fraction 0.9 --max_seq_len 131072 "
     "--max_batch_size 2048 --max_num_tokens 8192"},
    /* llama.cpp: -c and -np for the batch, or as given */
    {MODEL "hardware: {gpu: rtx-3090}\nengine: {name: llamacpp}\n"
           "workload: {prompt: 7000, output: 512, batch: 2}\n",
     "llama-server -m small-bf16.gguf -c 15360 -np 2 -ub 512 -fa on -ctk f16 -ctv f16 -ngl 33"},
    {MODEL W8K "hardware: {gpu: rtx-3090}\nengine: {name: llamacpp, max_model_len: 32k}\n",
     "llama-server -m small-bf16.gguf -c 32768 -np 4 -kvu -ub 512 -fa on -ctk f16 -ctv f16 "
     "-ngl 33"},
    {MODEL W8K
     "hardware: {gpu: rtx-3090, count: 2}\nengine: {name: llamacpp, max_model_len: 32k, "
     "n_seq: 4, n_batch: 1024, n_ubatch: 256, flash_attn: true, swa_full: true, "
     "cuda_graphs: false}\ncache: {k: q8_0, v: q4_0}\nweights: {format: q4_k}\n",
     "GGML_CUDA_DISABLE_GRAPHS=1 llama-server -m small-q4_k.gguf -c 32768 -np 4 -b 1024 "
     "-ub 256 -fa on --swa-full -ctk q8_0 -ctv q4_0 -ngl 33 -sm layer -ts 1,1"},
    {MODEL W8K "hardware: {gpu: rtx-3090}\nengine: {name: llamacpp, version: \"2025-03\", "
               "max_model_len: 8k, n_seq: 1, flash_attn: true, offload_layers: 20}\n",
     "llama-server -m small-bf16.gguf -c 8192 -np 1 -ub 512 -fa -ctk f16 -ctv f16 -ngl 20"},
    {MODEL W8K
     "hardware: {gpu: rtx-3090}\nengine: {name: llamacpp, max_model_len: 8k, n_seq: 1, "
     "flash_attn: false}\nweights: {offload_layers: 12}\n",
     "llama-server -m small-bf16.gguf -c 8192 -np 1 -ub 512 -fa off -ctk f16 -ctv f16 "
     "-ngl 21"},
};

static void test_commands(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct kp *k = kp_build(commands[i].yaml);
        struct flags f;
        assert_true(flags_solve(k->arena, &k->problem, k->diag, &f));
        kt_same(flags_command(k->arena, &f), commands[i].command);
        kt_u64(f.set.n_cannot, 0);
        kp_free(k);
    }
}

/* --- what is printed -----------------------------------------------------------------------
 */

static char *printed(struct kp *k)
{
    char *text = NULL, *copy;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    struct flags f;

    assert_true(flags_solve(k->arena, &k->problem, k->diag, &f));
    flags_print(k->arena, &f, out);
    fclose(out);
    copy = arena_strdup(k->arena, text);
    free(text);
    return copy;
}

static void prints(const char *yaml, const char *want)
{
    struct kp *k = kp_build(yaml);
    const char *text = printed(k), *line = strchr(text, '\n');

    assert_true(!strncmp(text, "# Fits: ", 8) && line); /* figures belong to other tests */
    kt_same(line + 1, want);
    kp_free(k);
}

static void test_print(void **state)
{
    (void)state;
    prints(H100 W8K "engine: {name: vllm, max_model_len: 8k}\n",
           "vllm serve org/small \\\n"
           "  --gpu-memory-utilization 0.92 \\\n"
           "  --max-model-len 8192 \\\n"
           "  --max-num-seqs 1024 \\\n"
           "  --max-num-batched-tokens 8192 \\\n"
           "  --block-size 16\n");
    prints(H100 W8K "engine: {name: trtllm, block_tokens: 64, cuda_graphs: false}\n"
                    "cache: {format: fp8_e4m3}\nweights: {format: fp16}\n",
           "cat >trtllm.yaml <<'END'\n"
           "dtype: float16\n"
           "kv_cache_config:\n"
           "  free_gpu_memory_fraction: 0.9\n"
           "  tokens_per_block: 64\n"
           "  dtype: fp8\n"
           "cuda_graph_config: null\n"
           "END\n"
           "trtllm-serve org/small \\\n"
           "  --kv_cache_free_gpu_memory_fraction 0.9 \\\n"
           "  --max_seq_len 131072 \\\n"
           "  --max_batch_size 2048 \\\n"
           "  --max_num_tokens 8192 \\\n"
           "  --extra_llm_api_options trtllm.yaml\n");
    /* a name that a shell must not see bare, and where no name is known */
    prints("model: {profile: Llama-3.1-8B, name: \"my model's\"}\nhardware: {gpu: h100}\n" W8K
           "engine: {name: sglang, max_model_len: 8k, memory_fraction: 0.8}\n",
           "python -m sglang.launch_server \\\n"
           "  --model-path 'my model'\\''s' \\\n"
           "  --mem-fraction-static 0.8 \\\n"
           "  --context-length 8192 \\\n"
           "  --chunked-prefill-size 8192 \\\n"
           "  --page-size 1\n");
    prints(KP_LLAMA3_8B "hardware: {gpu: h100}\n" W8K
                        "engine: {name: sglang, max_model_len: 8k, memory_fraction: 0.8}\n",
           "# MODEL stands for the model, which the spec describes only\n"
           "python -m sglang.launch_server \\\n"
           "  --model-path MODEL \\\n"
           "  --mem-fraction-static 0.8 \\\n"
           "  --context-length 8192 \\\n"
           "  --chunked-prefill-size 8192 \\\n"
           "  --page-size 1\n");
}

static void test_python(void **state)
{
    (void)state;
    prints(H100 "engine: {name: hf}\nworkload: {prompt: 1024, output: 256, batch: 3}\n",
           "# `inputs` holds 3 prompts of 1024 tokens\n"
           "import torch\n"
           "from transformers import AutoModelForCausalLM\n\n"
           "model = AutoModelForCausalLM.from_pretrained(\n"
           "    \"org/small\",\n"
           "    torch_dtype=torch.bfloat16,\n"
           "    device_map=\"cuda\",\n"
           ")\n"
           "output = model.generate(\n"
           "    **inputs,\n"
           "    max_new_tokens=256,\n"
           ")\n");
    prints(H100 "engine: {name: hf, version: \"4.57.0\"}\nweights: {format: nf4_double}\n"
                "cache: {format: {scheme: hf_quantized, nbits: 2, group: 32, residual: 64}}\n"
                "workload: {prompt: 1024, output: 256, batch: 3}\n",
           "# `inputs` holds 3 prompts of 1024 tokens\n"
           "import torch\n"
           "from transformers import AutoModelForCausalLM, BitsAndBytesConfig\n\n"
           "model = AutoModelForCausalLM.from_pretrained(\n"
           "    \"org/small\",\n"
           "    dtype=torch.bfloat16,\n"
           "    quantization_config=BitsAndBytesConfig(load_in_4bit=True, "
           "bnb_4bit_quant_type=\"nf4\", bnb_4bit_use_double_quant=True),\n"
           "    device_map=\"cuda\",\n"
           ")\n"
           "output = model.generate(\n"
           "    **inputs,\n"
           "    cache_implementation=\"quantized\",\n"
           "    cache_config={\"backend\": \"quanto\", \"nbits\": 2, \"q_group_size\": 32, "
           "\"residual_length\": 64},\n"
           "    max_new_tokens=256,\n"
           ")\n");
    prints("model: {name: org/small, profile: Llama-3.1-8B}\nhardware: {gpu: h100, count: 2}\n"
           "parallel: {tp: 2}\nengine: {name: hf, cuda_graphs: true}\n"
           "weights: {format: fp16}\nworkload: {prompt: 1024, output: 256, batch: 3}\n",
           "# parallel.tp: start it with torchrun --nproc-per-node 2\n"
           "# `inputs` holds 3 prompts of 1024 tokens\n"
           "import torch\n"
           "from transformers import AutoModelForCausalLM\n\n"
           "model = AutoModelForCausalLM.from_pretrained(\n"
           "    \"org/small\",\n"
           "    torch_dtype=torch.float16,\n"
           "    tp_plan=\"auto\",\n"
           ")\n"
           "output = model.generate(\n"
           "    **inputs,\n"
           "    cache_implementation=\"static\",\n"
           "    max_new_tokens=256,\n"
           ")\n");
}

/* --- what cannot be told -------------------------------------------------------------------
 */

static const struct {
    const char *yaml, *key, *reason;
} refusals[] = {
    {H100
     "engine: {name: vllm, max_model_len: 8k}\ncache: {sharing: {scheme: lckv, warmup: 2}}\n",
     "cache.sharing",
     "vLLM runs the sharing a model ships with; lckv needs a model made for it and code of its "
     "own"},
    {H100 "engine: {name: sglang}\ncache: {eviction: {scheme: snapkv, capacity: 1024}}\n",
     "cache.eviction", "SGLang never drops a token that is in view: no snapkv"},
    {H100 "engine: {name: trtllm}\ncache: {eviction: {scheme: snapkv, capacity: 1024}}\n",
     "cache.eviction", "TensorRT-LLM never drops a token that is in view: no snapkv"},
    {H100 "engine: {name: hf}\ncache: {eviction: {scheme: snapkv, capacity: 1024}}\n",
     "cache.eviction", "transformers never drops a token that is in view: no snapkv"},
    {H100 "engine: {name: vllm, max_model_len: 8k}\ncache: {offload: 0.5}\n", "cache.offload",
     "vLLM keeps the cache of running sequences on the GPU; no setting holds 0.5 of it in host "
     "memory"},
    {H100 "engine: {name: vllm, max_model_len: 8k}\ncache: {format: kivi2}\n", "cache.format",
     "vLLM has no cache format kivi2"},
    {H100 "engine: {name: sglang}\ncache: {format: nvfp4}\n", "cache.format",
     "SGLang has no cache format nvfp4"},
    {H100 "engine: {name: vllm, max_model_len: 8k}\ncache: {k: fp8_e4m3, v: bf16}\n",
     "cache.k, cache.v", "vLLM stores K and V in one format, not fp8_e4m3 and bf16"},
    {H100 "engine: {name: vllm, max_model_len: 8k}\ncache: {format: fp32}\n", "cache.format",
     "vLLM's unquantized cache is in the type of its activations, bf16, not in fp32"},
    {H100 "engine: {name: trtllm}\ncache: {k: fp8_e4m3, v: bf16}\n", "cache.k, cache.v",
     "TensorRT-LLM stores K and V in one format, not fp8_e4m3 and bf16"},
    {H100 "engine: {name: trtllm}\ncache: {format: fp32}\n", "cache.format",
     "TensorRT-LLM's unquantized cache is in the type of its activations, not in fp32"},
    {H100 "engine: {name: trtllm}\ncache: {format: int8}\n", "cache.format",
     "TensorRT-LLM's PyTorch backend has no cache format int8"},
    {H100 "engine: {name: trtllm, version: \"0.20.0\"}\ncache: {format: nvfp4}\n",
     "cache.format", "TensorRT-LLM has no cache format nvfp4"},
    {H100 "engine: {name: trtllm}\nweights: {offload_layers: 4}\n", "weights.offload_layers",
     "trtllm-serve has no setting that keeps whole layers in host memory"},
    {H100 "engine: {name: hf}\ncache: {format: q8_0}\n", "cache.format",
     "transformers stores the cache in the type of the activations or as hf_quantized, not as "
     "q8_0"},
    {H100 "engine: {name: llamacpp}\ncache: {offload: 0.5}\n", "cache.offload",
     "llama.cpp keeps the cache of running sequences on the GPU; no setting holds 0.5 of it in "
     "host memory"},
    {MODEL "hardware: {gpu: h100, count: 2}\nparallel: {cp: 2}\nengine: {name: sglang}\n",
     "parallel.cp", "SGLang takes its context-parallel ranks out of tp, not beside it"},
    {MODEL "hardware: {gpu: h100, count: 2}\nparallel: {cp: 2}\nengine: {name: hf}\n",
     "parallel.cp", "transformers' generate() has no such division"},
    {"model: Qwen3-30B-A3B\nhardware: {gpu: h100, count: 2}\nparallel: {tp: 2, ep: 4}\n"
     "engine: {name: vllm, max_model_len: 8k}\n",
     "parallel.ep", "vLLM divides the experts over tp x dp x cp = 2 ranks, not over 4"},
    {MODEL "hardware: {gpu: rtx-3090}\nengine: {name: vllm, max_model_len: 128k}\n",
     "engine.max_model_len",
     "vLLM does not start: one request of 131072 tokens is more than the pool"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct kp *k = kp_build(refusals[i].yaml);
        struct flags f;
        const char *line;
        assert_true(flags_solve(k->arena, &k->problem, k->diag, &f));
        kt_u64(f.set.n_cannot, 1);
        kt_same(f.set.cannot[0].key, refusals[i].key);
        kt_same(f.set.cannot[0].reason, refusals[i].reason);
        line = arena_printf(k->arena, "\n# not set, %s: %s\n", refusals[i].key,
                            refusals[i].reason);
        assert_non_null(strstr(printed(k), line));
        kp_free(k);
    }
}

static void test_no_server(void **state)
{
    struct kp *k = kp_build(H100);
    struct flags f;

    (void)state;
    assert_false(flags_solve(k->arena, &k->problem, k->diag, &f));
    assert_int_equal(diag_exit(k->diag), 3);
    kp_says(k, "the engine of this plan is 'ideal', which is no server; name one (engine.name: "
               "vllm, sglang, trtllm, llamacpp or hf)");
    kp_free(k);
}

/* --- notes ----------------------------------------------------------------------------------
 */

static const struct {
    const char *yaml, *note;
} notes[] = {
    {MODEL W8K "hardware: {gpu: rtx-3090}\nengine: {name: vllm}\n",
     "max_model_len 131072 does not fit the pool: the workload's 8192 tokens are taken"},
    {H100 W8K "engine: {name: vllm, max_model_len: 8k}\nweights: {format: awq}\n",
     "weights.format awq is a property of the checkpoint: serve one that was made so"},
    {H100 W8K "engine: {name: trtllm}\nweights: {format: awq}\n",
     "weights.format awq is a property of the checkpoint: serve one that was made so"},
    {H100 W8K "engine: {name: hf}\nweights: {format: awq}\n",
     "weights.format awq is a property of the checkpoint: load one that was made so"},
    {H100 W8K "engine: {name: trtllm, version: \"0.20.0\"}\n",
     "before 1.0 the limits are those the engine was built with: give trtllm-build the same "
     "--max_batch_size, --max_num_tokens and --max_seq_len"},
    {H100 W8K "engine: {name: trtllm, version: \"0.20.0\"}\ncache: {format: int8}\n",
     "cache.format int8 is fixed when the engine is built, from a checkpoint converted with "
     "--int8_kv_cache"},
    {MODEL W8K "hardware: {gpu: h100, count: 2}\nparallel: {dp: 2}\nengine: {name: trtllm}\n",
     "parallel.dp: run 2 of these; trtllm-serve has no replicas of its own"},
    {H100 W8K "engine: {name: llamacpp}\n",
     "small-bf16.gguf stands for the model converted to GGUF with weights of that type"},
};

static void test_notes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        struct kp *k = kp_build(notes[i].yaml);
        struct flags f;
        bool found = false;
        assert_true(flags_solve(k->arena, &k->problem, k->diag, &f));
        for (size_t j = 0; j < f.set.n_notes; j++)
            found |= !strcmp(f.set.notes[j], notes[i].note);
        if (!found)
            print_message("missing: %s\n", notes[i].note);
        assert_true(found);
        kp_free(k);
    }
}

/* The budget that the told fraction of the whole GPU gives is that of the limit. */
static void test_memory_limit(void **state)
{
    static const char *const engines[] = {"vllm", "sglang", "trtllm"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct arena *a = arena_new();
        const char *limited = arena_printf(
            a,
            MODEL "hardware: {gpu: h100, memory_limit: 40GiB}\nengine: {name: %s, "
                  "max_model_len: 8k, max_seqs: 128, max_batched_tokens: 2048}\n" W8K,
            engines[i]);
        struct kp *k = kp_build(limited), *whole;
        struct flags f;
        uint64_t want = k->problem.stages[0].budget.kv_pool_bytes;
        const char *told = NULL;
        assert_true(flags_solve(k->arena, &k->problem, k->diag, &f));
        for (size_t j = 0; j < f.set.n; j++)
            if (f.set.items[j].key && !strcmp(f.set.items[j].key, "engine.memory_fraction"))
                told = f.set.items[j].value;
        whole = kp_build(arena_printf(
            a,
            MODEL "hardware: {gpu: h100}\nengine: {name: %s, memory_fraction: %s, "
                  "max_model_len: 8k, max_seqs: 128, max_batched_tokens: 2048}\n" W8K,
            engines[i], told));
        kt_rel((double)whole->problem.stages[0].budget.kv_pool_bytes, (double)want, 0.001);
        assert_true(whole->problem.stages[0].budget.kv_pool_bytes <= want);
        kp_free(whole);
        kp_free(k);
        arena_free(a);
    }
}

/* --- the model's name -----------------------------------------------------------------------
 */

static void test_model_names(void **state)
{
    struct arena *a = arena_new();
    char *folder = kt_folder(a);
    const char *config = arena_printf(a, "%s/config.json", folder);
    FILE *out = fopen(config, "w");
    const char *models[3], *names[3];

    (void)state;
    assert_non_null(out);
    fputs("{\"model_type\": \"llama\", \"num_hidden_layers\": 2, \"hidden_size\": 64, "
          "\"intermediate_size\": 128, \"num_attention_heads\": 4, \"vocab_size\": 256}\n",
          out);
    fclose(out);
    models[0] = config;
    models[1] = folder;
    models[2] = arena_printf(a, "{config: \"%s\"}", config);
    names[0] = names[1] = names[2] = folder;
    for (int i = 0; i < 3; i++) {
        struct kp *k = kp_build(arena_printf(
            a, "model: %s\nhardware: {gpu: h100}\nengine: {name: vllm}\n", models[i]));
        struct flags f;
        assert_true(flags_solve(k->arena, &k->problem, k->diag, &f));
        kt_same(f.model, names[i]);
        kp_free(k);
    }
    struct kp *k =
        kp_build("model: qwen3-8b\nhardware: {gpu: h100}\nengine: {name: vllm}\n" W8K);
    struct flags f;
    assert_true(flags_solve(k->arena, &k->problem, k->diag, &f));
    kt_same(f.model, "Qwen/Qwen3-8B");
    kp_free(k);
    kt_folder_remove(folder);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),     cmocka_unit_test(test_print),
        cmocka_unit_test(test_python),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_server),    cmocka_unit_test(test_notes),
        cmocka_unit_test(test_memory_limit), cmocka_unit_test(test_model_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Where a model may come from, and what a spec assumes: files in a temporary folder, profiles
 * by name, overrides. */
#include "tests/kvplan.h"

#include <unistd.h>

static const char config[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 512, \"intermediate_size\": 1024, \"num_hidden_layers\": 4, "
    "\"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"vocab_size\": 1000, \"torch_dtype\": \"bfloat16\"}";

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

struct place {
    struct arena *a;
    char *folder, *config;
};

static struct place make_place(void)
{
    struct place p = {.a = arena_new()};

    p.folder = kt_folder(p.a);
    p.config = arena_printf(p.a, "%s/config.json", p.folder);
    write_text(p.config, config);
    return p;
}

static void remove_place(struct place *p)
{
    kt_folder_remove(p->folder);
    arena_free(p->a);
}

static struct kp *with_model(struct place *p, const char *model, bool build)
{
    const char *text = arena_printf(p->a, "model: %s\nhardware: {memory: 8GiB}\n", model);
    return build ? kp_build(text) : kp_try(text);
}

/* 512 x 64 x (8 + 2 x 2 + 8) + 3 x 512 x 1024 + 2 x 512 a layer, x 4, + 2 x 1000 x 512 + 512 =
 * 9,941,504 ... by hand: 655,360 + 1,572,864 + 1,024 = 2,229,248; x 4 = 8,916,992; + 1,024,000
 * + 512. */
enum { SMALL_PARAMETERS = 9941504 };

static void test_paths(void **state)
{
    (void)state;
    struct place p = make_place();
    const char *folder[] = {p.folder, p.config};
    for (size_t i = 0; i < 2; i++) {
        struct kp *k = with_model(&p, folder[i], true);
        kt_u64(k->problem.params.total, SMALL_PARAMETERS);
        kp_free(k);
    }
    struct kp *k = with_model(
        &p, arena_printf(p.a, "{config: %s, name: my/model, layers: 8}", p.config), true);
    kt_u64(k->problem.params.total, SMALL_PARAMETERS + 8916992);
    kt_same(k->problem.model.name, "my/model");
    kp_free(k);
    k = with_model(&p, arena_printf(p.a, "{config: %s, weights_bytes: 1GiB}", p.config), true);
    kt_u64(k->problem.weights_bytes, 1073741824);
    kt_u64(k->problem.stages[0].budget.weights_bytes, 1073741824);
    kp_free(k);
    remove_place(&p);
}

/* ModelOpt checkpoints: FP8 weights but the head and the embedding, an FP8 cache. */
static void test_quantization_beside(void **state)
{
    (void)state;
    struct place p = make_place();
    write_text(
        arena_printf(p.a, "%s/hf_quant_config.json", p.folder),
        "{\"producer\": {\"name\": \"modelopt\"}, \"quantization\": {\"quant_algo\": \"FP8\", "
        "\"kv_cache_quant_algo\": \"FP8\", \"exclude_modules\": [\"lm_head\"]}}");
    struct kp *k = with_model(&p, p.folder, true);
    struct ck ck = {0};
    assert_true(k->problem.weights_bytes < 2 * SMALL_PARAMETERS - 8000000);
    kt_u64(fold_token_bytes(&k->problem.whole, false, &ck), 4 * 2 * 2 * 64);
    kp_says(k, "cache.format is not given: fp8_e4m3, as the checkpoint says");
    kp_free(k);
    write_text(arena_printf(p.a, "%s/hf_quant_config.json", p.folder), "{");
    k = with_model(&p, p.folder, false);
    assert_false(k->ok);
    kp_free(k);
    remove_place(&p);
}

static void test_profiles(void **state)
{
    (void)state;
    struct place p = make_place();
    struct kp *k = with_model(&p, "qwen3-8b", true);
    kt_u64(k->problem.params.total, 8190735360);
    kp_free(k);
    k = with_model(&p, "{profile: Qwen/Qwen3-8B, layers: 18}", true);
    kt_u64(k->problem.layout.n_layers, 18);
    kp_free(k);
    k = with_model(&p, "Qwen/Qwen3-88B", false);
    assert_false(k->ok);
    kp_says(k, "unknown model 'Qwen/Qwen3-88B'; did you mean 'Qwen/Qwen3-8B'?");
    kp_free(k);
    k = with_model(&p, arena_printf(p.a, "%s/nothing.json", p.folder), false);
    assert_false(k->ok);
    kp_says(k, "cannot be opened: No such file or directory");
    kp_free(k);
    k = with_model(&p, "{config: [1]}", false);
    assert_false(k->ok);
    kp_says(k, "model.config must be a path");
    kp_free(k);
    remove_place(&p);
}

/* What was assumed is said. */
static void test_assumptions(void **state)
{
    (void)state;
    struct kp *k = kp_build("model: Qwen3-8B\nhardware: {gpu: h100, count: 4}\n");
    kp_says(k, "parallel is not given: 4 GPUs are used as tensor parallel");
    kt_u64(k->problem.parallel.tp, 4);
    kp_free(k);
    k = kp_build("model: Qwen3-8B\nhardware: {gpu: h100, count: 4}\nparallel: {tp: 2}\n");
    kp_says(k, "parallel uses 2 of 4 GPUs");
    kp_free(k);
    k = kp_build("model: Qwen3-8B\nhardware: {memory: 80GiB}\n");
    kp_says(k, "hardware.gpu is not given: memory is planned, time is not");
    assert_false(k->problem.gpu_named);
    kp_free(k);
    k = kp_build("model: Qwen3-8B\nhardware: {gpu: h100}\nworkload: {prompt: 1M}\n");
    kp_says(k, "exceed the 40960 positions the model was made for");
    kp_free(k);
    k = kp_build("model: Qwen3-8B\nhardware: {gpu: h100}\ncache: {sharing: {scheme: lckv}}\n");
    kp_says(k, "lckv changes a shipped checkpoint: the model needs (further) training with it");
    kp_free(k);
    k = kp_build("model: DeepSeek-V3\nhardware: {gpu: h200, count: 8}\n");
    kp_says(k,
            "a latent cache is not divided by tensor parallelism: every rank holds it whole");
    kp_free(k);
    k = kp_build(
        "model: Qwen3-8B\nhardware: {gpu: h100, count: 2}\nparallel: {pp: 2}\ncache: {sharing: {scheme: lckv}}\n");
    kp_says(k, "in another pipeline stage: it is sent there and held twice");
    kp_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_quantization_beside),
        cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_assumptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* layers: the sums over layers are the report's figures, the map is the layout's, and equal
 * layers share a line. */
#include <stdlib.h>
#include <string.h>

#include "planner/plan/layers.h"
#include "tests/kvplan.h"

#define TINY                                                                                   \
    "model: {layers: 22, hidden_size: 2048, intermediate_size: 5632, heads: 32, kv_heads: 4, " \
    "head_dim: 64, vocab_size: 32000}\nhardware: {gpu: rtx-3090}\n"

static uint64_t number_at(const cJSON *tree, const char *path)
{
    uint64_t v = 0;

    if (!json_get_u64(json_at(tree, path), &v))
        fail_msg("no number at %s", path);
    return v;
}

static void check_sums(const struct problem *p, const struct diag *d)
{
    cJSON *tree = layers_json("spec.yaml", p, d);
    const struct workload *w = &p->workload;
    struct ck ck = {0};

    kt_u64(number_at(tree, "total.after_prefill_bytes"),
           fold_resident_bytes(&p->whole, w->prompt, 0, p->block_tokens, &ck));
    kt_u64(number_at(tree, "total.final_bytes"),
           fold_resident_bytes(&p->whole, w->prompt, w->output, p->block_tokens, &ck));
    kt_u64(number_at(tree, "total.bytes_per_token"), fold_token_bytes(&p->whole, false, &ck));
    kt_u64(number_at(tree, "total.state_bytes"), p->whole.state_bytes);
    kt_u64(number_at(tree, "total.kv_layers"), layout_kv_layers(&p->layout));
    cJSON_Delete(tree);
}

static void sums_are_the_reports(void **state)
{
    static const char *const specs[] = {
        TINY,
        TINY "engine: {block_tokens: 16}\nworkload: {prompt: 1001, output: 3}\n",
        TINY
        "cache: {sharing: {scheme: lckv, warmup: 2}, eviction: {scheme: pyramidkv, capacity: 128}}\n",
        TINY "cache: {sharing: {scheme: yoco}}\n",
        TINY "cache: {eviction: {scheme: duoattention}, k: q8_0, v: q4_0}\n",
        TINY "cache: {format: kivi2, eviction: {scheme: headkv, capacity: 256}}\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct kp *k = kp_build(specs[i]);
        check_sums(&k->problem, k->diag);
        kp_free(k);
    }
}

static void every_model(void **state)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    size_t n;
    const struct profile_entry *models =
        profile_list(profiles_open(a, NULL, d), PROFILE_MODEL, a, d, &n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct kp *k = kp_build(
            arena_printf(a, "model: \"%s\"\nhardware: {memory: 80GiB}\n", models[i].name));
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        check_sums(&k->problem, k->diag);
        layers_table(k->arena, &k->problem, false, out);
        fclose(out);
        assert_non_null(strstr(text, "\nmap ("));
        free(text);
        kp_free(k);
    }
    arena_free(a);
}

/* LCKV with two warm-up layers: 1, 21 and 22 own, 2 to 20 read 21. */
static void streams_of_a_map(void **state)
{
    struct kp *k = kp_build(TINY "cache: {sharing: {scheme: lckv, warmup: 2}}\n");
    cJSON *tree = layers_json("spec.yaml", &k->problem, k->diag);

    (void)state;
    kt_u64(number_at(tree, "layers.4.streams.0.reads_layer"), 21);
    kt_u64(number_at(tree, "layers.4.streams.0.retained_tokens"), 2048);
    kt_u64(number_at(tree, "layers.4.streams.0.after_prefill_bytes"), 0);
    kt_u64(number_at(tree, "layers.4.streams.0.stored_heads"), 0);
    assert_true(cJSON_IsFalse(json_at(tree, "layers.4.streams.0.owns")));
    assert_true(cJSON_IsTrue(json_at(tree, "layers.4.streams.0.diagonal_masked")));
    kt_u64(number_at(tree, "layers.4.prefill_passes"), 9);
    kt_u64(number_at(tree, "layers.20.after_prefill_bytes"), 2048 * 4 * 128 * 2);
    kt_u64(number_at(tree, "layers.20.bytes_per_token"), 1024);
    kt_u64(number_at(tree, "total.after_prefill_bytes"), 3 * 2048 * 1024);
    cJSON_Delete(tree);
    kp_free(k);
}

static void table_is(const char *yaml, bool all, const char *want)
{
    struct kp *k = kp_build(yaml);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    layers_table(k->arena, &k->problem, all, out);
    fclose(out);
    kt_same(text, want);
    free(text);
    kp_free(k);
}

static void equal_layers_share_a_line(void **state)
{
    (void)state;
    table_is(
        TINY "cache: {sharing: {scheme: lckv, warmup: 2}}\n", false,
        "inline: 22 layers, 3 of 22 attention layers keep K/V; sharing lckv, eviction none, stored as bf16\n"
        "One sequence, after a prompt of 2,048 tokens: 6.00 MiB; a token more: 3.00 KiB\n"
        "\n"
        "layers  mixer  reads   heads q/kv  dims   format  window  passes  keeps  after prefill   a token\n"
        "------  -----  ------  ----------  -----  ------  ------  ------  -----  -------------  --------\n"
        "1,22    full   itself  32/4        64+64  bf16         -       1  2,048       2.00 MiB  1.00 KiB\n"
        "2-20    full   21      32/4        64+64  -            -       9  2,048              -         -\n"
        "21      full   itself  32/4        64+64  bf16         -       9  2,048       2.00 MiB  1.00 KiB\n"
        "\n"
        "map (# keeps its K/V, > reads a layer above)\n"
        "    1  #>>>>>>>>>>>>>>>>>>>##\n");
}

/* Readers at one distance, owners one apart in three, and a remainder. */
static void layers_at_a_distance(void **state)
{
    struct kp *k = kp_build(TINY "cache: {sharing: {scheme: cla, factor: 3}}\n");
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    layers_table(k->arena, &k->problem, false, out);
    fclose(out);
    assert_non_null(strstr(text, "\n1-2,5,8 ... (8) "));
    assert_non_null(strstr(text, "\n3,6 ... 21 (7) "));
    assert_non_null(strstr(text, " 1 below "));
    assert_non_null(strstr(text, "\n4,7 ... 22 (7) "));
    assert_non_null(strstr(text, " 2 below "));
    assert_non_null(strstr(text, "\n    1  ##<<#<<#<<#<<#<<#<<#<<\n"));
    free(text);
    kp_free(k);
}

static void states_and_windows(void **state)
{
    (void)state;
    table_is(
        "model: {layers: 4, hidden_size: 256, intermediate_size: 512, heads: 4, kv_heads: 2, head_dim: 64, "
        "vocab_size: 1000, window: 128, layer_types: [sliding*3, full]}\n"
        "hardware: {memory: 1GiB}\nworkload: {prompt: 1k, output: 1}\n",
        true,
        "inline: 4 layers, 4 of 4 attention layers keep K/V; sharing none, eviction none, stored as bf16\n"
        "One sequence, after a prompt of 1,024 tokens: 704.00 KiB; a token more: 2.00 KiB\n"
        "\n"
        "layers  mixer    reads   heads q/kv  dims   format  window  passes  keeps  after prefill  a token\n"
        "------  -------  ------  ----------  -----  ------  ------  ------  -----  -------------  -------\n"
        "1       sliding  itself  4/2         64+64  bf16       128       1    128      64.00 KiB    512 B\n"
        "2       sliding  itself  4/2         64+64  bf16       128       1    128      64.00 KiB    512 B\n"
        "3       sliding  itself  4/2         64+64  bf16       128       1    128      64.00 KiB    512 B\n"
        "4       full     itself  4/2         64+64  bf16         -       1  1,024     512.00 KiB    512 B\n"
        "\n"
        "map (# keeps its K/V, w keeps a window)\n"
        "    1  www#\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_the_reports), cmocka_unit_test(every_model),
        cmocka_unit_test(streams_of_a_map),     cmocka_unit_test(equal_layers_share_a_line),
        cmocka_unit_test(layers_at_a_distance), cmocka_unit_test(states_and_windows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

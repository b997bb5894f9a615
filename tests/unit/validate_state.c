/* validate_state: recurrent mixers in the decoder against a plain one in double precision; what
 * of them it does not run. */
#include "tests/kvfollow.h"

#define STATE "hidden_size: 64, intermediate_size: 96, vocab_size: 96, mixer: none, "
#define ALONE "hidden_size: 64, vocab_size: 96, mixer: none, norms_per_layer: 1, "

/* Every kind of recurrent mixer, alone, with an MLP, and beside or between attention. */
static const char *const specs[] = {
    "model: {layers: 2, " ALONE
    "ssm: {kind: mamba1, inner: 128, state_dim: 16, conv_kernel: 4, dt_rank: 8}}\n" REST,
    "model: {layers: 2, " STATE
    "ssm: {kind: mamba1, inner: 72, state_dim: 16, conv_kernel: 3, dt_rank: 16, "
    "dtbc_norm: true, fp32_state: true}}\n" REST,
    "model: {layers: 2, " ALONE
    "ssm: {kind: mamba2, heads: 6, head_dim: 16, state_dim: 32, groups: 2, conv_kernel: "
    "4}}\n" REST,
    "model: {layers: 2, " MODEL
    ", ssm: {kind: mamba2, heads: 4, head_dim: 24, state_dim: 64, groups: 1, conv_kernel: "
    "2, no_gate_norm: true}}\n" REST,
    "model: {layers: 3, layer_types: [g, full, g], layer_kinds: {g: {mixer: none, ssm: "
    "{kind: gdn, conv_kernel: 4, k_heads: 2, k_dim: 32, v_heads: 4, v_dim: 24}}}, " MODEL
    "}\n" REST,
    "model: {layers: 2, " STATE
    "ssm: {kind: kda, heads: 3, head_dim: 16, conv_kernel: 4, fp32_state: true}}\n" REST,
    "model: {layers: 3, layer_types: [g, full, g], layer_kinds: {g: {mixer: none, ssm: "
    "{kind: lightning, heads: 4, head_dim: 32}}}, " MODEL "}\n" REST,
    "model: {layers: 2, " STATE "ssm: {kind: retention, heads: 4, head_dim: 32}}\n" REST,
    "model: {layers: 3, layer_types: [g, full, g], layer_kinds: {g: {mixer: none, ssm: "
    "{kind: shortconv, conv_kernel: 3}}}, " MODEL "}\n" REST,
    "model: {layers: 4, layer_types: [m, full, g, g], layer_kinds: {m: {mixer: none, ssm: "
    "{kind: mamba1, inner: 128, state_dim: 32, conv_kernel: 4, dt_rank: 8}}, g: {mixer: "
    "none, ssm: {kind: gmu, inner: 128}}}, " MODEL "}\n" REST,
    "model: {layers: 5, hidden_size: 64, " HEAD
    ", norms_per_layer: 1, layer_types: [m, d, full, d, m], layer_kinds: {m: {mixer: "
    "none, ssm: {kind: mamba2, heads: 4, head_dim: 16, state_dim: 16, groups: 2, "
    "conv_kernel: 4, fp32_state: true}}, d: {mixer: none, intermediate_size: 96}}}\n" REST,
    /* with what else blocks are made of */
    "model: {layers: 4, norm: layer, attention_bias: qkvo, layer_types: [m, full, g, full], "
    "layer_kinds: {m: {mixer: none, ssm: {kind: mamba1, inner: 128, state_dim: 16, "
    "conv_kernel: 4, dt_rank: 8}}, g: {mixer: none, ssm: {kind: gmu, inner: 128}}}, " MODEL
    "}\n" REST,
    "model: {layers: 3, norms_per_layer: 4, output_gate: true, qk_norm: head, layer_types: "
    "[g, full, g], layer_kinds: {g: {mixer: none, ssm: {kind: gdn, conv_kernel: 4, k_heads: "
    "2, k_dim: 32, v_heads: 4, v_dim: 24}}}, " MODEL "}\n" REST,
    "model: {layers: 3, norms_per_layer: 1, head_gate: true, ssm: {kind: mamba2, heads: 4, "
    "head_dim: 24, state_dim: 64, groups: 1, conv_kernel: 2}, " MODEL "}\n" REST,
    "model: {layers: 2, norm: layer, final_norms: 0, ssm: {kind: retention, heads: 4, "
    "head_dim: 32}, " MODEL "}\n" REST,
};

static void recurrent(void **state)
{
    static const struct kd_rule none;

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        right(*state, specs[i], none, 0);
}

/* States go from one part of a prompt to the next. */
static void chunked(void **state)
{
    static const struct kd_rule none;

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        right(*state, specs[i], none, 9);
}

/* A sequence's state begins at nought with every prompt. */
static void again(void **state)
{
    struct kk *k = *state;
    struct fixture f;
    float logits[2][2 * 96];

    open_it(k,
            "model: {layers: 2, " MODEL
            ", ssm: {kind: retention, heads: 2, head_dim: 16}}\n" REST,
            setting(k), &f);
    for (int i = 0; i < 2; i++) {
        kk_ok(k, decoder_prefill(f.x));
        kk_ok(k, decoder_decode(f.x, OUTPUT));
        kk_ok(k, decoder_logits(f.x, logits[i]));
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    close_it(&f);
}

static void refused(void **state)
{
    static const struct {
        const char *yaml, *why;
    } cases[] = {
        {"model: {layers: 2, dtype: fp32, " STATE
         "ssm: {kind: shortconv, conv_kernel: 3}}\n" REST,
         "the vectors of recurrent mixers are read in 16 bits, these are in fp32"},
        {"model: {layers: 2, " STATE "ssm: {kind: lightning, heads: 2, head_dim: 48}}\n" REST,
         "states of 16, 32, 64, 128 or 256 columns, rows a multiple of 8"},
        {"model: {layers: 2, " STATE "ssm: {kind: shortconv, conv_kernel: 5}}\n" REST,
         "short convolutions have 2 to 4 taps"},
        {"model: {layers: 2, " STATE
         "ssm: {kind: mamba1, inner: 64, state_dim: 16, conv_kernel: 4, dt_rank: 4}}\n" REST,
         "rates of Mamba-1 have a rank that is a multiple of 8"},
        {"model: {layers: 2, " STATE
         "ssm: {kind: lightning, heads: 16384, head_dim: 16}}\n" REST,
         "mixers have less than 2^14 heads of less than 2^14 elements"},
        {"model: {layers: 2, " STATE
         "ssm: {kind: lightning, heads: 3, head_dim: 16}}\nhardware: {memory: 1GiB, count: 2}\n"
         "parallel: {tp: 2}\n",
         "recurrent mixers whose heads or groups no rank has whole are not run"},
        {"model: {layers: 4, ssm: {kind: shortconv, conv_kernel: 3}, " MODEL "}\n" REST
         "cache: {sharing: {scheme: lckv, warmup: 2}}\n",
         "recurrent mixers in a slice of layers that runs several times are not run"},
        {"model: {layers: 2, " STATE "ssm: {kind: gmu, inner: 64}}\n" REST,
         "a unit of gated memory has no Mamba-1 layer of its width below"},
        {"model: {layers: 2, " STATE "norms_per_layer: 2}\n" REST,
         "layers without a mixer or without an MLP have 1 norm"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kp *p = kp_build(cases[i].yaml);
        struct device_text why;
        assert_false(decoder_supports(&p->problem, &why));
        kt_same(why.text, cases[i].why);
        kp_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(recurrent),
        kk_reversed(chunked),
        kk_test(again),
        kk_test(refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

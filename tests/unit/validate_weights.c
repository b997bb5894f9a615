/* validate_weights: the decoder with weights in every format of the planner's table that it
 * multiplies: logits against the plain decoder in double precision, every byte that the planner
 * counts there and read, and what is refused. */
#include "tests/kvkeep.h"
#include "tests/kvplan.h"
#include "validate/decoder.h"
#include "validate/run.h"

#define HEAD "vocab_size: 96, heads: 4, kv_heads: 2, head_dim: 16"
#define MODEL "hidden_size: 64, intermediate_size: 96, " HEAD
#define REST "hardware: {memory: 1GiB}\nworkload: {prompt: 20, output: 4}\n"
#define GQA "model: {layers: 2, " MODEL "}\n" REST
/* With latents; halves of a head share blocks of scales. */
#define MLA                                                                                    \
    "hidden_size: 64, intermediate_size: 96, vocab_size: 96, heads: 4, mla: {kv_lora_rank: "   \
    "64, q_lora_rank: 32, nope_dim: 48, rope_dim: 16, v_dim: 32}, indexer: {heads: 8, dim: "   \
    "32, top_k: 12}"
#define MLA_BLOCKS                                                                             \
    "layers: 1, hidden_size: 256, intermediate_size: 256, vocab_size: 96, heads: 4, mla: "     \
    "{kv_lora_rank: 256, nope_dim: 16, rope_dim: 16, v_dim: 64}"
/* Rows of ggml's blocks of 256. */
#define BLOCKS                                                                                 \
    "layers: 1, hidden_size: 256, intermediate_size: 256, vocab_size: 96, heads: 4, "          \
    "kv_heads: 2, head_dim: 64"

enum { PROMPT = 20, OUTPUT = 2 };

/* --- numbers --------------------------------------------------------------------------------
 */

struct error { /* sums of squares */
    double ours, naive, size;
};

/* One sequence; the references follow the tokens that the decoder chose. */
static void follow(struct kk *k, struct kp *p, struct decoder *x, struct error *e)
{
    static const struct kd_rule none;
    uint32_t tokens[PROMPT + OUTPUT + 1], n, vocab = p->problem.model.vocab;
    double *want = ARENA_NEW(k->a, double, vocab), *naive = ARENA_NEW(k->a, double, vocab);
    float *got = ARENA_NEW(k->a, float, vocab);
    struct kd refs[2];

    kk_ok(k, decoder_prefill(x));
    for (uint32_t step = 0; step <= OUTPUT; step++) {
        kk_ok(k, decoder_tokens(x, tokens, &n));
        for (int i = 0; i < 2; i++) {
            if (!step)
                refs[i] = kd_open(k->a, x, &p->problem.layout, none, i, PROMPT + OUTPUT + 1);
            kd_tokens(&refs[i], step ? tokens + PROMPT + step - 1 : tokens, step ? 1 : PROMPT,
                      step ? PROMPT + step - 1 : 0, !step, i ? naive : want);
        }
        kk_ok(k, decoder_logits(x, got));
        for (uint32_t i = 0; i < vocab; i++) {
            e->ours += pow((double)got[i] - want[i], 2);
            e->naive += pow(naive[i] - want[i], 2);
            e->size += pow(want[i], 2);
        }
        if (step < OUTPUT)
            kk_ok(k, decoder_decode(x, 1));
    }
}

/* Error at most twice that of a plain 16-bit program, and small beside the logits. */
static void right(struct kk *k, const char *yaml)
{
    struct decoder_setting set = {
        .sequences = 1, .prompt = PROMPT, .output = OUTPUT, .seed = 1};
    struct kp *p = kp_build(yaml);
    struct error e = {0, 0, 0};
    struct decoder *x;

    kk_ok(k, decoder_open(k->d, &p->problem, &set, &x));
    follow(k, p, x, &e);
    if (!(e.ours <= 4 * e.naive) || !(e.ours < 0.01 * e.size))
        print_error("%s: error %g, of a plain program %g, of 1\n", yaml, sqrt(e.ours / e.size),
                    sqrt(e.naive / e.size));
    assert_true(e.ours <= 4 * e.naive);
    assert_true(e.ours < 0.01 * e.size);
    decoder_close(x);
    kt_u64(device_used_bytes(k->d), 0);
    kp_free(p);
}

/* The reference has the weights as products of unit vectors give them. */
static void numbers(void **state)
{
    static const char *const formats[] = {"fp32",  "fp8",   "fp8_block", "int8",      "awq_g64",
                                          "mxfp4", "nvfp4", "gptq_g32",  "nf4",       "q8_0",
                                          "q4_0",  "int4",  "gptq_int8", "int8_g128", "awq"};
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        right(k,
              arena_printf(k->a,
                           "model: {layers: 1, attention_bias: qkv, tied_embeddings: %s, " MODEL
                           "}\n" REST "weights: {format: %s}\n",
                           i % 2 ? "false" : "true", formats[i]));
    right(k, "model: {layers: 1, hidden_size: 64, moe: {experts: 3, top_k: 3, "
             "intermediate_size: 32}, " HEAD "}\n" REST "weights: {format: fp8_channel}\n");
    right(k,
          "model: {layers: 1, dtype: fp32, quantization: {format: mxfp4, parts: [mlp]}, " MODEL
          "}\n" REST);
    right(k,
          "model: {quantization: {format: q4_k, embed_format: q5_k, head_format: q6_k}, " BLOCKS
          "}\n" REST);
    right(k, "model: {tied_embeddings: true, quantization: {format: q5_k, embed_format: q8_0, "
             "head_format: q8_0}, " BLOCKS "}\n" REST);
}

/* --- the planner's figures ------------------------------------------------------------------
 */

/* The check `step` passes in all it compares, and memory holds what the planner says. */
static void as_planned(struct kk *k, const char *yaml)
{
    struct device_options o = {.poison = true};
    struct kp *p = kp_build(yaml);
    struct subject subject;
    struct check_in in = {.subject = &subject, .device_name = "cpu"};
    struct findings f = {.arena = k->a};
    struct decoder_setting set = {.sequences = 2, .prompt = PROMPT, .output = 1};
    struct decoder_memory m;
    struct device_text why;
    const struct check *c = NULL;

    for (size_t i = 0; !c || strcmp(c->name, "step") != 0; i++)
        c = check_at(i);
    run_subject(k->a, yaml, &p->problem, &subject);
    assert_int_equal(device_open("cpu", &o, &in.device, &why), DEVICE_OK);
    assert_int_equal(device_get_info(in.device, &in.info), DEVICE_OK);
    kk_ok(k, c->run(&in, &f));
    device_close(in.device);
    assert_true(f.n > 8);
    for (size_t i = 0; i < f.n; i++) {
        const struct finding *x = &f.list[i];
        if (x->verdict == VERDICT_FAILED)
            print_error("%s%s: %.0f predicted, %.0f measured: %s\n", yaml, x->what,
                        x->predicted, x->measured, x->reason);
        assert_int_not_equal(x->verdict, VERDICT_FAILED);
    }
    assert_true(decoder_need(&p->problem, &set, &m, &why));
    kt_u64(m.weights_bytes - m.gap_bytes,
           p->problem.stages[0].work.weights_bytes + p->problem.stages[0].work.copied_bytes);
    kp_free(p);
}

/* Codes, high bits, scales, zeros, order and factors of every format; the models: of plain
 * rows, and of blocks of 256. */
static void every_format(struct kk *k, const char *plain, const char *blocks)
{
    const struct weight_format *f;
    uint32_t runs = 0;

    for (size_t i = 0; (f = weight_format_at(i)) != NULL; i++) {
        const char *model = f->block_elems == 256 ? blocks : plain;
        char *yaml = arena_printf(k->a, "%sweights: {format: %s}\n", model, f->name);
        struct kp *p = kp_build(yaml);
        struct device_text why;
        bool ok = decoder_supports(&p->problem, &why);
        kp_free(p);
        runs += ok;
        if (ok)
            as_planned(k, yaml);
        else
            assert_string_equal(
                why.text, arena_printf(k->a, "weights in %s: no kernel reads them", f->name));
    }
    kt_u64(runs, 29); /* the others are nf4_double and ggml's rarer blocks */
}

static void planned(void **state)
{
    every_format(*state, GQA, "model: {" BLOCKS "}\n" REST);
}

static void planned_latents(void **state)
{
    every_format(*state, "model: {layers: 2, " MLA "}\n" REST,
                 "model: {" MLA_BLOCKS "}\n" REST);
}

/* Engines that keep a copy of the up-projection, which steps read and prompts do not. */
static void planned_copies(void **state)
{
    static const char *const formats[] = {"bf16", "fp8", "fp8_block", "gptq_g32"};
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        as_planned(k, arena_printf(k->a,
                                   "model: {layers: 2, max_position: 64, " MLA "}\n" REST
                                   "weights: {format: %s}\nengine: {name: vllm, version: "
                                   "0.19.0}\n",
                                   formats[i]));
    as_planned(k, "model: {max_position: 64, quantization: {format: q4_k}, " MLA_BLOCKS
                  "}\n" REST "engine: {name: vllm, version: 0.19.0}\n");
    as_planned(k, "model: {layers: 2, max_position: 64, " MLA "}\n" REST
                  "weights: {format: fp8_block}\nengine: {name: sglang}\n");
}

/* Vectors in fp32, experts, ranks, fp16 activations. */
static void planned_models(void **state)
{
    static const char *const specs[] = {
        "model: {layers: 2, attention_bias: qkvo, mlp_bias: true, mlp: plain, qk_norm: full, "
        "norms_per_layer: 4, dtype: fp32, " MODEL "}\n" REST,
        "model: {layers: 2, hidden_size: 64, moe: {experts: 5, top_k: 2, intermediate_size: 32, "
        "shared_intermediate_size: 64, shared_gate: true}, " HEAD "}\n" REST
        "weights: {format: gptq_g32}\ncache: {format: fp16}\n",
        "model: {layers: 2, hidden_size: 64, intermediate_size: 128, vocab_size: 96, heads: 4, "
        "kv_heads: 4, head_dim: 32}\nhardware: {memory: 1GiB, count: 2}\nworkload: {prompt: 20, "
        "output: 4}\nparallel: {tp: 2}\nweights: {format: nvfp4}\n",
        "model: {quantization: {format: q6_k, embed_format: q4_k, head_format: q8_0}, " BLOCKS
        "}\n" REST,
        "model: {layers: 2, output_gate: true, qk_norm: head, attention_bias: qkv, " MODEL
        "}\n" REST "weights: {format: fp8_block}\n",
    };

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        as_planned(*state, specs[i]);
}

static void refused(void **state)
{
    static const char *const cases[][2] = {
        {GQA "weights: {format: q2_k}\n", "weights in q2_k: no kernel reads them"},
        {GQA "weights: {format: q4_k}\n",
         "weights in q4_k: rows of a multiple of 256 elements"},
        {"model: {layers: 1, hidden_size: 72, intermediate_size: 96, " HEAD "}\n" REST
         "weights: {format: fp8}\n",
         "weights in fp8: rows of a multiple of 32 elements"},
        {"model: {layers: 1, quantization: {format: fp8, embed_format: fp8}, " MODEL "}\n" REST,
         "an embedding in fp8 is not looked up"},
    };
    struct device_text why;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kp *p = kp_build(cases[i][0]);
        assert_false(decoder_supports(&p->problem, &why));
        kt_same(why.text, cases[i][1]);
        kp_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {kk_test(numbers),         kk_test(planned),
                                       kk_test(planned_latents), kk_test(planned_copies),
                                       kk_test(planned_models),  kk_test(refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

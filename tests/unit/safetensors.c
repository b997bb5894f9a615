/* safetensors headers and indexes: what is read, every refusal with its message, and what the
 * headers make of a model. */
#include "tests/kvgguf.h"
#include "tests/kvmodel.h"

#include "planner/doc/safetensors.h"
#include "planner/model/from_safetensors.h"
#include "planner/model/from_store.h"

/* A file in memory; ' stands for ". */
static bool read_it(struct kt *t, const char *header, size_t data_bytes,
                    struct safetensors *out)
{
    struct kg *g = ARENA_NEW(t->a, struct kg, 1);
    struct source s;

    kg_num(g, strlen(header), 8);
    kg_bytes(g, header, strlen(header));
    for (size_t i = 8; i < g->n; i++)
        g->b[i] = g->b[i] == '\'' ? '"' : g->b[i];
    g->n += data_bytes;
    source_memory("x", g->b, g->n, &s);
    return safetensors_read(t->a, &s, t->d, out);
}

static void test_reads(void **state)
{
    struct kt *t = *state;
    struct safetensors x;

    assert_true(read_it(t,
                        "{'__metadata__': {'format': 'pt', 'x': [1, {'y': null}]},\n"
                        " 'b': {'shape': [2, 3], 'data_offsets': [8, 20], 'dtype': 'BF16'},"
                        " 'a': {'dtype': 'F8_E4M3', 'shape': [8], 'data_offsets': [0, 8]},"
                        " 'none': {'dtype': 'F32', 'shape': [0, 4], 'data_offsets': [20, 20]},"
                        " 'one': {'dtype': 'F32', 'shape': [], 'data_offsets': [20, 24]},"
                        " 'half': {'dtype': 'F4', 'shape': [6], 'data_offsets': [24, 27]}}   ",
                        27, &x));
    kt_u64(x.n, 5);
    kt_u64(x.data_bytes, 27);
    kt_same(x.v[0].name, "a");
    kt_u64(x.v[0].bits, 8);
    kt_same(x.v[1].dtype, "BF16");
    kt_u64(x.v[1].n_elems, 6);
    assert_true(read_it(t, "{}", 0, &x));
    kt_u64(x.n, 0);
}

#define T(name, begin, end)                                                                    \
    "'" name "': {'dtype': 'U8', 'shape': [4], 'data_offsets': [" #begin ", " #end "]}"

static const struct {
    const char *header;
    size_t data_bytes;
    const char *message;
} bad[] = {
    {"[]", 0, "byte 0 of its JSON: expected '{'"},
    {"{", 0, "byte 1 of its JSON: expected '\"'"},
    {"{'a", 0, "byte 3 of its JSON: expected '\"' at the end of a string"},
    {"{'a\t'", 0, "byte 3 of its JSON: expected printable UTF-8"},
    {"{'a\xff'", 0, "byte 3 of its JSON: expected printable UTF-8"},
    {"{'': {}}", 0, "a tensor name of 0 bytes: 1 to 4096 are allowed"},
    {"{'a': 1}", 0, "byte 6 of its JSON: expected '{'"},
    {"{" T("a", 0, 4) "} x", 4, "byte 61 of its JSON: expected nothing after the last '}'"},
    {"{" T("a", 0, 4) ",}", 4, "byte 60 of its JSON: expected '\"'"},
    {"{'a': {'dtype': 'U8', 'shape': [4]}}", 4,
     "tensor 'a' needs dtype, shape and data_offsets"},
    {"{'a': {'dtype': 'U8', 'dtype': 'U8'}}", 4, "tensor 'a': a second key 'dtype'"},
    {"{'a': {'type': 'U8'}}", 4, "tensor 'a': an unknown key 'type'"},
    {"{'a': {'dtype': 'Q4'}}", 4, "tensor 'a' has the unknown dtype 'Q4'"},
    {"{'a': {'shape': [-1]}}", 4, "byte 17 of its JSON: expected a whole number"},
    {"{'a': {'shape': [1.5]}}", 4, "byte 18 of its JSON: expected ']'"},
    {"{'a': {'shape': [18446744073709551616]}}", 4,
     "byte 37 of its JSON: a number does not fit 64 bits"},
    {"{'a': {'shape': [4294967296, 4294967296]}}", 4,
     "tensor 'a' has more elements than 64 bits can count"},
    {"{'a': {'shape': [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}", 4,
     "tensor 'a' has more than 16 dimensions"},
    {"{'a': {'dtype': 'F32', 'shape': [9223372036854775807], 'data_offsets': [0, 4]}}", 4,
     "tensor 'a' has 9223372036854775807 elements of F32, but takes 4 bytes"},
    {"{'a': {'dtype': 'F4', 'shape': [3], 'data_offsets': [0, 2]}}", 4,
     "tensor 'a' has 3 elements of F4, but takes 2 bytes"},
    {"{" T("a", 8, 4) "}", 4, "tensor 'a' ends at byte 4, before it begins (8)"},
    {"{" T("a", 0, 5) "}", 5, "tensor 'a' has 4 elements of U8, but takes 5 bytes"},
    {"{" T("a", 0, 4) "," T("a", 4, 8) "}", 8, "the tensor 'a' stands in it twice"},
    {"{" T("a", 0, 4) "," T("b", 5, 9) "}", 9,
     "tensor 'b' begins at byte 5 of the data, the one before it ends at 4"},
    {"{" T("a", 0, 4) "," T("b", 2, 6) "}", 6,
     "tensor 'b' begins at byte 2 of the data, the one before it ends at 4"},
    {"{" T("a", 0, 4) "}", 3,
     "its tensors take 4 bytes, but 3 follow the header: it is cut short"},
    {"{" T("a", 0, 4) "}", 5,
     "its tensors take 4 bytes, but 5 follow the header: there is more"},
    {"{'__metadata__': {}, '__metadata__': {}}", 0, "__metadata__ stands in it twice"},
    {"{'__metadata__': [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]", 0,
     "its JSON is nested more than 32 deep"},
    {"{'__metadata__': ?}", 0, "byte 17 of its JSON: expected a value"},
};

static void test_refuses(void **state)
{
    struct kt *t = *state;
    struct safetensors x;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t->d = diag_new(t->a);
        assert_false(read_it(t, bad[i].header, bad[i].data_bytes, &x));
        kt_printed(t->d, arena_printf(t->a, "x: error: %s\n", bad[i].message));
    }
}

static void test_length(void **state)
{
    struct kt *t = *state;
    struct safetensors x;
    struct kg g = {.n = 0};
    struct source s;

    kg_num(&g, 5, 7);
    source_memory("x", g.b, g.n, &s);
    assert_false(safetensors_read(t->a, &s, t->d, &x));
    kg_num(&g, 0, 3);
    source_memory("y", g.b, g.n, &s);
    assert_false(safetensors_read(t->a, &s, t->d, &x));
    source_memory("z", "\0\xe1\xf5\5\1\0\0\0", 8, &s);
    s.size_bytes = (uint64_t)1 << 40;
    assert_false(safetensors_read(t->a, &s, t->d, &x));
    s.data = "\1\xe1\xf5\5\0\0\0\0";
    assert_false(safetensors_read(t->a, &s, t->d, &x));
    kt_printed(t->d,
               "x: error: is no safetensors file: it has only 7 bytes\n"
               "y: error: is no whole safetensors file: its header would have 5 bytes of 10\n"
               "z: error: its header of 4394967296 bytes is longer than the 100000000 that are "
               "read\n"
               "z: error: its header of 100000001 bytes is longer than the 100000000 that are "
               "read\n");
}

/* --- the index ------------------------------------------------------------------------------
 */

static bool index_it(struct kt *t, const char *text, struct safetensors_index *out)
{
    char *s = arena_strdup(t->a, text);

    for (char *p = s; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return safetensors_read_index(t->a, "x", s, strlen(s), t->d, out);
}

static void test_index(void **state)
{
    struct kt *t = *state;
    struct safetensors_index x;
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"{}", "byte 1 of its JSON: expected '\"'"},
        {"{'metadata': {}}", "its weight_map names no file"},
        {"{'weight_map': {}}", "its weight_map names no file"},
        {"{'weight_map': {'a': '../b'}}", "names '../b', which is no file beside it"},
        {"{'weight_map': {'a': 'x/b'}}", "names 'x/b', which is no file beside it"},
        {"{'weight_map': {'a': ''}}", "names '', which is no file beside it"},
        {"{'weight_map': {'a': 'b'}, 'weight_map': {'a': 'b'}}",
         "weight_map stands in it twice"},
        {"{'weight_map': {'a': 'b'}} 1",
         "byte 27 of its JSON: expected nothing after the last '}'"},
        {"{'weight_map': {'a': 1}}", "byte 21 of its JSON: expected '\"'"},
    };

    assert_true(index_it(t,
                         "{'metadata': {'total_size': 1234.0, 'x': 'y'}, 'z': [],\n"
                         " 'weight_map': {'a': 'm-1', 'b': 'm-2', 'c': 'm-1'}}\n",
                         &x));
    kt_u64(x.n_files, 2);
    kt_u64(x.n_tensors, 3);
    kt_u64(x.total_bytes, 1234);
    kt_same(x.files[1], "m-2");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        t->d = diag_new(t->a);
        assert_false(index_it(t, wrong[i].text, &x));
        kt_printed(t->d, arena_printf(t->a, "x: error: %s\n", wrong[i].message));
    }
}

/* --- models ---------------------------------------------------------------------------------
 */

/* 1 layer: q, o 8x8, k, v 4x8, MLP 3 x 16x8, 2 norms of 8; embedding 10 x 8, norm 8: 688
 * parameters, untied 80 more. */
#define CONFIG(more)                                                                           \
    "{'model_type': 'llama', 'num_hidden_layers': 1, 'hidden_size': 8, 'vocab_size': 10, "     \
    "'num_attention_heads': 2, 'num_key_value_heads': 1, 'intermediate_size': 16, "            \
    "'torch_dtype': 'bfloat16', 'tie_word_embeddings': true" more "}"
enum { TABLE_BYTES = 2 * (80 + 64 + 64 + 32 + 32 + 384 + 16 + 8) };

static const char *in(struct kt *t, const char *folder, const char *file)
{
    return arena_printf(t->a, "%s/%s", folder, file);
}

#define A(n, end)                                                                              \
    "'model.a': {'dtype': 'BF16', 'shape': [" #n "], 'data_offsets': [0, " #end "]}"

static void test_agrees(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    struct model m;

    ks_text(in(t, folder, "config.json"), CONFIG(""));
    ks_write(in(t, folder, "model.safetensors"), "{" A(680, 1360) "}", 1360);
    assert_true(model_from_folder(t->a, folder, "x", t->d, &m));
    kt_u64(m.weights_bytes, 0); /* the table says the same */
    kt_printed(t->d,
               arena_printf(t->a,
                            "%s: note: 1 safetensors file holds 1360 bytes of weights, as "
                            "the config's shapes give\n",
                            folder));
    kt_u64(TABLE_BYTES, 1360);
    kt_folder_remove(folder);
}

static void test_differs(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    struct model m;

    ks_text(in(t, folder, "config.json"), CONFIG(", 'num_nextn_predict_layers': 1"));
    ks_write(
        in(t, folder, "a.safetensors"),
        "{" A(
            700,
            1400) ", 'lm_head.weight': {'dtype': 'BF16', 'shape': [10, 8], "
                  "'data_offsets': [1400, 1560]}, 'model.layers.1.x': {'dtype': 'F32', 'shape': [5], "
                  "'data_offsets': [1560, 1580]}}",
        1580);
    ks_write(in(t, folder, "b.safetensors"),
             "{'model.layers.0.rotary_emb.inv_freq': {'dtype': 'F32', 'shape': [2], "
             "'data_offsets': [0, 8]}}",
             8);
    ks_text(in(t, folder, "model.safetensors.index.json"),
            "{'weight_map': {'model.a': 'a.safetensors', 'x': 'a.safetensors', 'y': "
            "'a.safetensors', 'z': 'b.safetensors'}}");
    assert_true(model_from_folder(t->a, folder, "x", t->d, &m));
    kt_u64(m.weights_bytes, 1400);
    assert_true(m.weights_measured);
    kt_diag(
        t->d,
        "2 safetensors files hold 1400 bytes of weights (without 20 of multi-token prediction, "
        "160 of an lm_head that is tied, 8 of buffers that are not loaded); the config's "
        "shapes give 1360; the files count",
        0);
    ks_text(in(t, folder, "model.safetensors.index.json"),
            "{'weight_map': {'model.a': 'a.safetensors'}}");
    assert_true(model_from_folder(t->a, folder, "x", t->d, &m));
    kt_diag(t->d, "lists 1 tensors, its files hold 3", 0);
    kt_folder_remove(folder);
}

static void test_missing(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    struct model m;
    const char *first = in(t, folder, "m-00001-of-00002.safetensors");

    ks_write(first, "{" A(340, 680) "}", 680);
    assert_false(model_from_weights(t->a, first, NULL, t->d, &m));
    kt_printed(t->d,
               arena_printf(t->a,
                            "%s: error: there is no config.json beside it: its header has "
                            "the bytes of the weights, but not the heads and layers of the "
                            "model\n",
                            first));
    ks_text(in(t, folder, "config.json"), CONFIG(""));
    t->d = diag_new(t->a);
    assert_true(model_from_weights(t->a, first, NULL, t->d, &m));
    kt_u64(m.weights_bytes, 0);
    kt_diag(t->d,
            "'m-00002-of-00002.safetensors' is not there: the weights are counted by the "
            "config's shapes",
            0);
    ks_write(in(t, folder, "m-00002-of-00002.safetensors"), "{" A(341, 682) "}", 682);
    t->d = diag_new(t->a);
    assert_true(model_from_weights(t->a, first, NULL, t->d, &m));
    kt_u64(m.weights_bytes, 1362);
    ks_text(in(t, folder, "model.safetensors.index.json"), "{'weight_map': {'a': 'gone'}}");
    t->d = diag_new(t->a);
    assert_true(model_from_folder(t->a, folder, NULL, t->d, &m));
    kt_diag(t->d, "'gone' is not there", 0);
    kt_folder_remove(folder);
}

static void test_folders(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    struct model m;

    assert_false(model_from_folder(t->a, folder, NULL, t->d, &m));
    ks_text(in(t, folder, "config.json"), CONFIG(""));
    assert_true(model_from_folder(t->a, folder, NULL, t->d, &m)); /* shapes alone */
    ks_write(in(t, folder, "model.safetensors"), "{}", 0);
    assert_false(model_from_folder(t->a, folder, NULL, t->d, &m));
    ks_write(in(t, folder, "model.safetensors"), "{", 0);
    assert_false(model_from_folder(t->a, folder, NULL, t->d, &m));
    assert_false(model_from_weights(t->a, in(t, folder, "none.safetensors"), NULL, t->d, &m));
    kt_printed(t->d,
               arena_printf(t->a,
                            "%s: error: holds neither a config.json nor a GGUF file\n"
                            "%s: error: its safetensors files hold no weights\n"
                            "%s/model.safetensors: error: byte 1 of its JSON: expected "
                            "'\"'\n"
                            "%s/none.safetensors: error: cannot be opened: No such file or "
                            "directory\n",
                            folder, folder, folder, folder));
    kt_folder_remove(folder);
}

static void test_names(void **state)
{
    struct kt *t = *state;
    uint32_t n = 0;

    assert_true(shard_count("m-00002-of-00015.gguf", &n));
    kt_u64(n, 15);
    kt_same(shard_name(t->a, "m-00002-of-00015.gguf", 7), "m-00007-of-00015.gguf");
    assert_false(shard_count("m-00000-of-00015.gguf", &n));
    assert_false(shard_count("m-00016-of-00015.gguf", &n));
    assert_false(shard_count("m-0001-of-00015.gguf", &n));
    assert_false(shard_count("-00001-of-00015.gguf", &n));
    assert_false(shard_count("m.gguf", &n));
    assert_false(shard_count("m", &n));
    kt_same(shard_name(t->a, "m.gguf", 1), "m.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_reads),   kt_test(test_refuses), kt_test(test_length),
        kt_test(test_index),   kt_test(test_agrees),  kt_test(test_differs),
        kt_test(test_missing), kt_test(test_folders), kt_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

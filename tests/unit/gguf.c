/* GGUF headers: what is read, and every refusal with its message. */
#include "tests/kvgguf.h"

#include "planner/doc/gguf.h"

static struct kg g;

static bool read_it(struct kt *t, struct gguf *out)
{
    struct source s;

    source_memory("x.gguf", g.b, g.n, &s);
    return gguf_read(t->a, &s, t->d, out);
}

static void refuses(void **state, const char *message)
{
    struct kt *t = *state;
    struct gguf out;

    assert_false(read_it(t, &out));
    kt_printed(t->d, message);
}

/* --- the header -----------------------------------------------------------------------------
 */

static void test_reads(void **state)
{
    struct kt *t = *state;
    static const uint32_t list[] = {8, 0, 8};
    static const uint64_t dims[] = {32, 3, 2};
    struct gguf x;

    kg_start(&g, 2, 7);
    kg_string(&g, "general.architecture", "llama");
    kg_list(&g, "llama.attention.head_count_kv", list, 3);
    kg_u32(&g, "general.alignment", 64);
    kg_key(&g, "a.i8", 1);
    kg_num(&g, 0xfe, 1);
    kg_key(&g, "a.bool", 7);
    kg_num(&g, 1, 1);
    kg_key(&g, "a.f32", 6);
    kg_num(&g, 0x3f800000, 4);
    kg_key(&g, "tokenizer.ggml.tokens", 9);
    kg_num(&g, 8, 4);
    kg_num(&g, 2, 8);
    kg_text(&g, "a");
    kg_text(&g, "bcd");
    kg_tensor(&g, "token_embd.weight", 8, 0, 2, dims);
    kg_tensor(&g, "blk.0.ffn_up_exps.weight", 0, 128, 3, dims);
    kg_num(&g, 0, 400);
    assert_true(read_it(t, &x));
    kt_u64(x.n_pairs, 7);
    kt_u64(x.n_tensors, 2);
    kt_u64(x.alignment, 64);
    kt_u64(x.data_at % 64, 0);
    kt_same(gguf_find(&x, "general.architecture")->text, "llama");
    kt_u64(gguf_find(&x, "llama.attention.head_count_kv")->items[1], 0);
    kt_u64(gguf_find(&x, "llama.attention.head_count_kv")->n, 3);
    kt_u64(gguf_find(&x, "a.i8")->items[0], (uint64_t)-2);
    kt_u64(gguf_find(&x, "a.bool")->items[0], 1);
    assert_null(gguf_find(&x, "a.f32")->items);
    kt_u64(gguf_find(&x, "tokenizer.ggml.tokens")->n, 2);
    assert_null(gguf_find(&x, "b"));
    kt_same(x.tensors[1].name, "blk.0.ffn_up_exps.weight");
    kt_u64(x.tensors[1].n_elems, 192);
    kt_u64(x.tensors[1].dims[3], 1);
    kt_u64(x.tensors[1].offset, 128);
}

static void test_start(void **state)
{
    g.n = 0;
    kg_bytes(&g, "GG", 2);
    refuses(state, "x.gguf: error: the file ends after 2 bytes, within its header\n");
}

static void test_magic(void **state)
{
    g.n = 0;
    kg_bytes(&g, "GGML\3\0\0\0", 8);
    refuses(state, "x.gguf: error: is no GGUF file: it does not start with 'GGUF'\n");
}

static void test_swapped(void **state)
{
    kg_start(&g, 0, 0);
    memcpy(g.b + 4, "\0\0\0\3", 4);
    refuses(state,
            "x.gguf: error: is a GGUF file for big-endian machines (byte-swapped), which "
            "is not read here\n");
}

static void test_version(void **state)
{
    kg_start(&g, 0, 0);
    g.b[4] = 1;
    refuses(state, "x.gguf: error: is of GGUF version 1; versions 2 and 3 are read here\n");
}

static void test_counts(void **state)
{
    kg_start(&g, 5, 0);
    kg_num(&g, 0, 8);
    refuses(state, "x.gguf: error: claims 5 tensors, more than the file can hold\n");
}

static void test_many_tensors(void **state)
{
    kg_start(&g, UINT64_MAX, 0);
    refuses(state,
            "x.gguf: error: claims 18446744073709551615 tensors, more than any model has\n");
}

static void test_many_keys(void **state)
{
    kg_start(&g, 0, 65537);
    refuses(state, "x.gguf: error: claims 65537 keys, more than any model has\n");
}

static void test_key_counts(void **state)
{
    kg_start(&g, 0, 2);
    kg_num(&g, 0, 8);
    refuses(state, "x.gguf: error: claims 2 keys, more than the file can hold\n");
}

static void test_key_length(void **state)
{
    kg_start(&g, 0, 1);
    kg_num(&g, UINT64_MAX, 8);
    kg_num(&g, 0, 8);
    refuses(state, "x.gguf: error: the file ends after 40 bytes, within its header\n");
}

static void test_empty_key(void **state)
{
    kg_start(&g, 0, 1);
    kg_u32(&g, "", 1);
    refuses(state, "x.gguf: error: a key of 0 bytes: 1 to 4096 are allowed\n");
}

static void test_long_key(void **state)
{
    kg_start(&g, 0, 1);
    kg_num(&g, 5000, 8);
    for (int i = 0; i < 5010; i++)
        kg_num(&g, 'a', 1);
    refuses(state, "x.gguf: error: a key of 5000 bytes: 1 to 4096 are allowed\n");
}

static void test_control_key(void **state)
{
    kg_start(&g, 0, 1);
    kg_u32(&g, "a\033[2J", 1);
    refuses(state, "x.gguf: error: a key is no printable UTF-8\n");
}

static void test_value_type(void **state)
{
    kg_start(&g, 0, 1);
    kg_key(&g, "a", 13);
    kg_num(&g, 0, 8);
    refuses(state, "x.gguf: error: 'a' has the unknown value type 13\n");
}

static void test_nested_list(void **state)
{
    kg_start(&g, 0, 1);
    kg_key(&g, "a", 9);
    kg_num(&g, 9, 4);
    kg_num(&g, 1, 8);
    refuses(state, "x.gguf: error: 'a' is a list of lists, which GGUF does not have\n");
}

static void test_list_length(void **state)
{
    kg_start(&g, 0, 1);
    kg_key(&g, "a", 9);
    kg_num(&g, 10, 4);
    kg_num(&g, UINT64_MAX / 8 + 2, 8); /* 8 bytes each: the product would be 8 */
    kg_num(&g, 0, 16);
    refuses(state,
            "x.gguf: error: 'a' claims 2305843009213693953 items, more than the file can "
            "hold\n");
}

static void test_list_cut(void **state)
{
    kg_start(&g, 0, 1);
    kg_key(&g, "a", 9);
    kg_num(&g, 4, 4);
    kg_num(&g, 4, 8);
    kg_num(&g, 0, 8);
    refuses(state, "x.gguf: error: the file ends after 57 bytes, within its header\n");
}

static void test_string_cut(void **state)
{
    kg_start(&g, 0, 1);
    kg_key(&g, "a", 8);
    kg_num(&g, UINT64_MAX - 3, 8);
    refuses(state, "x.gguf: error: the file ends after 45 bytes, within its header\n");
}

static void test_same_key(void **state)
{
    kg_start(&g, 0, 2);
    kg_u32(&g, "a.b", 1);
    kg_u32(&g, "a.b", 2);
    refuses(state, "x.gguf: error: the key 'a.b' stands in it twice\n");
}

static void test_same_tensor(void **state)
{
    static const uint64_t one[] = {1};

    kg_start(&g, 2, 0);
    kg_tensor(&g, "t", 0, 0, 1, one);
    kg_tensor(&g, "t", 0, 32, 1, one);
    refuses(state, "x.gguf: error: the tensor 't' stands in it twice\n");
}

static void test_dims(void **state)
{
    static const uint64_t five[] = {1, 1, 1, 1, 1};

    kg_start(&g, 1, 0);
    kg_tensor(&g, "t", 0, 0, 5, five);
    refuses(state, "x.gguf: error: tensor 't' has 5 dimensions, at most 4 are allowed\n");
}

static void test_negative_dim(void **state)
{
    static const uint64_t dims[] = {4, UINT64_MAX};

    kg_start(&g, 1, 0);
    kg_tensor(&g, "t", 0, 0, 2, dims);
    refuses(state, "x.gguf: error: tensor 't' has a dimension of -1\n");
}

static void test_zero_dim(void **state)
{
    static const uint64_t dims[] = {0};

    kg_start(&g, 1, 0);
    kg_tensor(&g, "t", 0, 0, 1, dims);
    refuses(state, "x.gguf: error: tensor 't' has a dimension of 0\n");
}

static void test_elements(void **state)
{
    static const uint64_t dims[] = {(uint64_t)1 << 40, (uint64_t)1 << 40};

    kg_start(&g, 1, 0);
    kg_tensor(&g, "t", 0, 0, 2, dims);
    refuses(state, "x.gguf: error: tensor 't' has more elements than 63 bits can count\n");
}

static void test_alignment(void **state)
{
    kg_start(&g, 0, 1);
    kg_u32(&g, "general.alignment", 48);
    refuses(state, "x.gguf: error: general.alignment must be a power of two, as a u32\n");
}

static void test_no_data(void **state)
{
    static const uint64_t one[] = {1};

    kg_start(&g, 1, 0);
    kg_tensor(&g, "t", 0, 0, 1, one);
    refuses(state, "x.gguf: error: the file ends after 57 bytes, before its data starts\n");
}

static void test_long_header(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    const char *path = arena_printf(t->a, "%s/x.gguf", folder);
    FILE *f = fopen(path, "wb");
    struct source s;
    struct gguf x;

    kg_start(&g, 0, 1);
    kg_key(&g, "a", 8);
    kg_num(&g, 70 << 20, 8);
    assert_true(fwrite(g.b, 1, g.n, f) == g.n && fflush(f) == 0);
    assert_int_equal(ftruncate(fileno(f), 80 << 20), 0);
    fclose(f);
    assert_true(source_file(t->a, path, t->d, &s));
    assert_false(gguf_read(t->a, &s, t->d, &x));
    source_close(&s);
    kt_folder_remove(folder);
    kt_diag(t->d, "its header is longer than 64 MiB, the most that is read here", 0);
}

/* Any prefix of a good header is refused, with one message. */
static void test_prefixes(void **state)
{
    struct kt *t = *state;
    static const uint64_t dims[] = {32, 2};
    struct gguf x;
    size_t n;

    kg_start(&g, 1, 2);
    kg_string(&g, "general.architecture", "llama");
    kg_u32(&g, "llama.block_count", 2);
    kg_tensor(&g, "token_embd.weight", 0, 0, 2, dims);
    n = g.n;
    for (g.n = 0; g.n < n; g.n++) {
        struct diag *d = diag_new(t->a);
        struct source s;

        source_memory("x.gguf", g.b, g.n, &s);
        assert_false(gguf_read(t->a, &s, d, &x));
        kt_u64(diag_errors(d), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_reads),        kt_test(test_start),       kt_test(test_magic),
        kt_test(test_swapped),      kt_test(test_version),     kt_test(test_counts),
        kt_test(test_many_tensors), kt_test(test_many_keys),   kt_test(test_key_counts),
        kt_test(test_key_length),   kt_test(test_empty_key),   kt_test(test_long_key),
        kt_test(test_control_key),  kt_test(test_value_type),  kt_test(test_nested_list),
        kt_test(test_list_length),  kt_test(test_list_cut),    kt_test(test_string_cut),
        kt_test(test_same_key),     kt_test(test_same_tensor), kt_test(test_dims),
        kt_test(test_negative_dim), kt_test(test_zero_dim),    kt_test(test_elements),
        kt_test(test_alignment),    kt_test(test_no_data),     kt_test(test_long_header),
        kt_test(test_prefixes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

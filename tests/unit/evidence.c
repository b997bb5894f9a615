/* evidence: published rows are read, found by scheme, and their distance to the asked
 * setting is right. And the parameters of schemes, which the distance is measured by. */
#include <string.h>
#include <sys/stat.h>

#include "planner/plan/evidence.h"
#include "planner/plan/params.h"
#include "tests/kvplan.h"

/* A use as a spec writes it. */
static struct scheme_use use_of(struct kt *t, enum scheme_axis axis, const char *yaml)
{
    struct doc_node *doc = NULL;
    struct scheme_use use;
    size_t n = 0;

    assert_true(doc_read_yaml(t->a, "use.yaml", yaml, strlen(yaml), t->d, &doc, 1, &n) &&
                n == 1);
    assert_true(scheme_bind(t->a, axis, doc, t->d, &use));
    return use;
}

/* One row as an evidence file writes it. */
static struct evidence_row row_of(struct kt *t, const char *scheme, const char *setting)
{
    struct doc_node *doc = NULL;
    size_t n = 0;

    assert_true(doc_read_yaml(t->a, "row.yaml", setting, strlen(setting), t->d, &doc, 1, &n) &&
                n == 1);
    return (struct evidence_row){.scheme = scheme,
                                 .model = "Llama-3-8B-Instruct",
                                 .metric = "score",
                                 .source = "a paper",
                                 .confidence = "primary",
                                 .value = 1,
                                 .setting = doc};
}

static void distances_by_hand(void **state)
{
    static const struct {
        const char *asked, *published;
        double distance;
    } cases[] = {
        {"{scheme: snapkv, capacity: 2048}", "{capacity: 2048}", 0},
        {"{scheme: snapkv, capacity: 2048}", "{capacity: 512}", 0.75},
        {"{scheme: snapkv, capacity: 512}", "{capacity: 2048}", 0.75},
        {"{scheme: snapkv, capacity: 512}", "{capacity: 512, layout: kv_head}", 1},
        {"{scheme: snapkv, capacity: 512, layout: kv_head}", "{capacity: 512, layout: kv_head}",
         0},
        {"{scheme: snapkv, capacity: 512}", "{capacity: 512, unheard_of: 3}", 1},
        {"{scheme: snapkv, capacity: 512}", "{compression_ratio: 0.5, capacity: 512}", 1},
        {"{scheme: snapkv, capacity: 512, window: 16}", "{capacity: 512}",
         1}, /* 16 is not the default */
        {"{scheme: snapkv, capacity: 512, window: 16}", "{capacity: 512, window: 32}", 0.5},
    };
    struct kt *t = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scheme_use use = use_of(t, AXIS_RETENTION, cases[i].asked);
        struct evidence_row r = row_of(t, "snapkv", cases[i].published);
        double far = evidence_distance(t->a, &r, &use);
        if (far < cases[i].distance || far > cases[i].distance)
            fail_msg("%s against %s: %g, not %g", cases[i].published, cases[i].asked, far,
                     cases[i].distance);
    }
}

static void lists_and_formats(void **state)
{
    struct kt *t = *state;
    struct scheme_use map = use_of(t, AXIS_SHARING, "{map: [1, 1, 3]}");
    struct scheme_use kivi = use_of(t, AXIS_STORAGE, "kivi2");
    struct evidence_row r = row_of(t, "map", "{map: [1, 1, 3, 3]}");

    assert_true(evidence_about(&r, &map));
    kt_rel(evidence_distance(t->a, &r, &map), 1, 0);
    r = row_of(t, "kivi", "{format: kivi2, group: 32, residual: 128}");
    assert_true(evidence_about(&r, &kivi));
    kt_rel(evidence_distance(t->a, &r, &kivi), 0, 0);
    r = row_of(t, "kivi", "{format: kivi4, group: 32}");
    assert_false(evidence_about(&r, &kivi));
    r = row_of(t, "expectedattention", "{compression_ratio: 0.5}");
    map = use_of(t, AXIS_RETENTION, "{scheme: expected-attention, compression_ratio: 0.5}");
    assert_true(evidence_about(&r, &map));
}

static void models_are_compared_by_name(void **state)
{
    struct kt *t = *state;
    struct evidence_row r = row_of(t, "snapkv", "{capacity: 1}");
    struct model m = {.name = "somebody/llama-3-8b-instruct"};

    assert_true(evidence_same_model(&r, &m));
    m.name = "Llama_3_8B_Instruct";
    assert_true(evidence_same_model(&r, &m));
    m.name = "Llama-3-8B";
    assert_false(evidence_same_model(&r, &m));
    m.name = NULL;
    assert_false(evidence_same_model(&r, &m));
}

static void the_builtin_files_are_read(void **state)
{
    struct kt *t = *state;
    struct evidence e;
    size_t quality = 0, contested = 0, memory = 0;

    assert_true(evidence_load(t->a, profiles_open(t->a, NULL, t->d), t->d, &e));
    kt_printed(t->d, "");
    for (size_t i = 0; i < e.n; i++) {
        const struct evidence_row *r = &e.rows[i];
        quality += r->kind == EVIDENCE_QUALITY;
        contested += r->kind == EVIDENCE_CONTESTED;
        memory += r->kind == EVIDENCE_MEMORY;
        assert_true(*r->model && *r->metric && *r->source && *r->confidence && r->setting);
    }
    assert_true(quality > 100 && contested > 5 && memory > 20);
}

/* Every row is about some scheme of the registry, and every key of its setting is one of the
 * scheme's; only the compression ratio of a comparison that ran all methods at one ratio may
 * be foreign to a scheme. */
static void settings_use_the_schemes_keys(void **state)
{
    struct kt *t = *state;
    struct evidence e;

    assert_true(evidence_load(t->a, profiles_open(t->a, NULL, t->d), t->d, &e));
    for (size_t i = 0; i < e.n; i++) {
        const struct evidence_row *r = &e.rows[i];
        bool found = false;
        for (size_t s = 0; scheme_at(s); s++) {
            for (const char *const *v = scheme_at(s)->names; *v; v++) {
                struct scheme_use use = {.scheme = scheme_at(s), .name = *v};
                if (!evidence_about(r, &use))
                    continue;
                found = true;
                for (const struct doc_node *k = r->setting->first; k; k = k->next)
                    if (strcmp(k->key, "format") != 0 &&
                        strcmp(k->key, "compression_ratio") != 0 &&
                        !params_field(use.scheme, k->key))
                        fail_msg("%s: %s:%d: no parameter '%s'", *v, k->key_at.file,
                                 k->key_at.line, k->key);
            }
        }
        if (!found)
            fail_msg("no scheme '%s'", r->scheme);
    }
}

static void the_nearest_row(void **state)
{
    struct kt *t = *state;
    struct model m = {.name = "Llama-3-8B-Instruct"};
    struct scheme_use use = use_of(t, AXIS_RETENTION, "{scheme: pyramidkv, capacity: 2048}");
    struct evidence e;
    struct evidence_near near;

    assert_true(evidence_load(t->a, profiles_open(t->a, NULL, t->d), t->d, &e));
    near = evidence_nearest(t->a, &e, &use, &m);
    kt_rel(near.row->value, 41.49, 0); /* arXiv:2406.02069v4 Table 11 */
    assert_true(near.same_model);
    kt_same(near.how_far, "the asked setting; Llama-3-8B-Instruct, this model");
    m.name = "mistralai/Mistral-7B-Instruct";
    near = evidence_nearest(t->a, &e, &use, &m);
    kt_rel(near.row->value, 41.63, 0); /* Table 12: as near, and the same model */
    use = use_of(t, AXIS_RETENTION, "{scheme: pyramidkv, capacity: 4096}");
    near = evidence_nearest(t->a, &e, &use, &m);
    kt_rel(near.distance, 0.5, 0);
    kt_same(near.how_far, "capacity 2048 vs 4096 asked; Mistral-7B-Instruct, this model");
    use = use_of(t, AXIS_RETENTION, "{scheme: think}");
    near = evidence_nearest(t->a, &e, &use, &m);
    assert_null(near.row);
    assert_null(near.how_far);
}

static void malformed_files_are_refused(void **state)
{
    static const char *const files[] = {
        "name: x\nscheme: snapkv\nrows:\n"
        "  - {model: m, metric: q, higher_is_better: true, setting: {}, value: abc, source: s}\n",
        "name: x\nscheme: snapkv\nrows:\n"
        "  - {model: m, metric: q, higher_is_better: true, setting: {}, source: s}\n",
        "name: x\nrows: []\n",
    };
    static const char *const says[] = {
        "expected a number",
        "value",
        "evidence without the key 'scheme'",
    };
    struct kt *t = *state;

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *folder = kt_folder(t->a), *inner = arena_printf(t->a, "%s/evidence", folder);
        char *path = arena_printf(t->a, "%s/x.yaml", inner);
        struct diag *d = diag_new(t->a);
        struct evidence e;
        FILE *f;
        assert_int_equal(mkdir(inner, 0700), 0);
        f = fopen(path, "w");
        assert_non_null(f);
        fputs(files[i], f);
        fclose(f);
        assert_false(evidence_load(t->a, profiles_open(t->a, folder, d), d, &e));
        kt_diag(d, says[i], 0);
        kt_folder_remove(inner);
        kt_folder_remove(folder);
    }
}

static void report_rows(void **state)
{
    struct kp *k = kp_build(
        KP_LLAMA3_8B "hardware: {gpu: h100}\ncache: {format: kivi2, eviction: {scheme: snapkv, "
                     "capacity: 1024}}\n");
    cJSON *list = json_list(NULL, NULL);
    bool kivi = false, contested = false;
    double v = 0;

    (void)state;
    evidence_json(k->arena, &k->problem, NULL, list);
    assert_null(list->child);
    evidence_json(k->arena, &k->problem, profiles_open(k->arena, NULL, k->diag), list);
    for (const cJSON *o = list->child; o; o = o->next) {
        const char *scheme = json_at(o, "scheme")->valuestring;
        kivi |= !strcmp(scheme, "kivi2");
        contested |= !strcmp(json_at(o, "kind")->valuestring, "contested");
        assert_true(!strcmp(scheme, "kivi2") || !strcmp(scheme, "snapkv"));
        assert_true(json_get_double(json_at(o, "value"), &v));
        for (const cJSON *other = o->next; other;
             other = other->next) /* a metric once a scheme and kind */
            assert_false(
                !strcmp(json_at(other, "metric")->valuestring,
                        json_at(o, "metric")->valuestring) &&
                !strcmp(json_at(other, "scheme")->valuestring, scheme) &&
                !strcmp(json_at(other, "kind")->valuestring, json_at(o, "kind")->valuestring));
    }
    assert_true(kivi && contested);
    cJSON_Delete(list);
    kp_free(k);
}

static void parameters_as_text_and_json(void **state)
{
    struct kt *t = *state;
    struct scheme_use use =
        use_of(t, AXIS_RETENTION, "{scheme: snapkv, capacity: 2k, layout: kv_head}");
    cJSON *o = json_object(NULL, NULL);
    uint64_t v = 0;

    assert_string_equal(params_text(t->a, &use), "capacity 2048, window 32, layout kv_head");
    params_json(t->a, &use, o);
    assert_true(json_get_u64(json_at(o, "capacity"), &v));
    kt_u64(v, 2048);
    assert_string_equal(json_at(o, "layout")->valuestring, "kv_head");
    assert_null(json_at(o, "compression_ratio"));
    cJSON_Delete(o);
    use = use_of(t, AXIS_SHARING, "{scheme: map, map: [1, 1, 3], sequential: true}");
    assert_string_equal(params_text(t->a, &use),
                        "map [1, 1, 3], forward_passes 7, backward_passes 2, sequential true");
    o = json_object(NULL, NULL);
    params_json(t->a, &use, o);
    assert_string_equal(json_at(o, "map")->valuestring, "[1, 1, 3]");
    assert_true(cJSON_IsTrue(json_at(o, "sequential")));
    cJSON_Delete(o);
    use = use_of(t, AXIS_STORAGE, "bf16");
    assert_string_equal(params_text(t->a, &use), "");
    use = use_of(t, AXIS_STORAGE, "kivi4");
    assert_string_equal(params_text(t->a, &use), "group 32, residual 128");
    use = use_of(t, AXIS_RETENTION, "{scheme: l2norm, keep_ratio: 0.25, skip_layers: [0, 1]}");
    assert_string_equal(params_text(t->a, &use),
                        "keep_ratio 0.25, prune_after 1000, skip_layers [0, 1]");
    assert_null(params_field(use.scheme, "keep"));
    assert_non_null(params_field(use.scheme, "keep-ratio"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(distances_by_hand),
        kt_test(lists_and_formats),
        kt_test(models_are_compared_by_name),
        kt_test(the_builtin_files_are_read),
        kt_test(settings_use_the_schemes_keys),
        kt_test(the_nearest_row),
        kt_test(malformed_files_are_refused),
        cmocka_unit_test(report_rows),
        kt_test(parameters_as_text_and_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

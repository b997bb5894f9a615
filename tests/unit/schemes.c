/* The registry and the binding of schemes: names, hints, defaults, and that every entry is
 * usable or says why not. */
#include "tests/kvcache.h"

static void every_entry_is_complete(void **state)
{
    struct kt *k = *state;
    size_t n = 0;

    for (const struct scheme *s; (s = scheme_at(n)); n++) {
        assert_non_null(s->names[0]);
        assert_non_null(s->summary);
        assert_non_null(s->source);
        assert_non_null(s->confidence);
        assert_true(s->unsupported ? !s->apply : s->apply != NULL);
        assert_true(!s->nfields == !s->params_size);
        for (size_t i = 0; i < s->nfields; i++) {
            assert_non_null(s->fields[i].help);
            assert_true(s->fields[i].offset < s->params_size);
        }
        for (const char *const *name = s->names; *name; name++) {
            const char *variant = NULL;
            assert_ptr_equal(scheme_find(s->axis, *name, &variant), s);
            kt_same(variant, *name);
        }
        if (s->compare && s->names[0]) { /* the parameters of a comparison must bind */
            struct scheme_use use;
            char *inner = arena_strndup(k->a, s->compare + 1, strlen(s->compare) - 2);
            assert_true(kc_bind(
                k, s->axis, arena_printf(k->a, "{scheme: %s, %s}", s->names[0], inner), &use));
        }
    }
    assert_true(n > 30);
    assert_null(scheme_at(n));
    assert_null(scheme_at(n + 100));
}

/* Each usable scheme, with its defaults or its comparison's parameters, on a model it fits. */
static void every_scheme_runs(void **state)
{
    struct kt *k = *state;

    for (size_t i = 0; scheme_at(i); i++) {
        const struct scheme *s = scheme_at(i);
        bool latent = strstr(s->names[0], "ds_mla") != NULL;
        if (s->unsupported || !strcmp(s->names[0], "map"))
            continue;
        for (const char *const *name = s->names; *name; name++) {
            struct model *m = latent ? kc_mla(k->a, 8) : kc_model(k->a, 8, 8, 4, 64);
            struct layout *l = kc_layout(k, m);
            bool fixed = !strcmp(*name, "mha") || !strcmp(*name, "mqa");
            const char *args = s->compare && !fixed ? s->compare : "{}";
            char *inner = arena_strndup(k->a, args + 1, strlen(args) - 2);
            struct scheme_use use;
            assert_true(
                kc_try(k, l, s->axis,
                       arena_printf(k->a, "{scheme: %s%s%s}", *name, *inner ? ", " : "", inner),
                       &use));
            struct extra_cost e = {0};
            if (s->extra)
                s->extra(&use, l, &(struct phase){4096, 16}, &e);
            assert_true(kc_bytes(l, 4096, 16) > 0 || !strcmp(*name, "yoco"));
            const char *pass = s->axis == AXIS_SHARING     ? l->sharing
                               : s->axis == AXIS_RETENTION ? l->retention
                                                           : l->storage;
            kt_same(pass, *name);
        }
    }
}

static void names_and_hints(void **state)
{
    struct kt *k = *state;
    struct scheme_use use;

    assert_true(kc_bind(k, AXIS_SHARING, "pizza_top", &use) ==
                false); /* kv_layers is required */
    assert_true(kc_bind(k, AXIS_STORAGE, "fp8-e4m3", &use));
    kt_same(use.name, "fp8_e4m3");
    kt_u64(use.sides, STORE_K | STORE_V);
    assert_true(kc_bind(k, AXIS_RETENTION, "none", &use));
    assert_null(use.scheme);
    assert_true(kc_bind(k, AXIS_RETENTION, "{scheme: none}", &use));
    assert_true(kc_bind(k, AXIS_RETENTION, "~", &use));
    assert_null(use.scheme);
    assert_true(scheme_bind(k->a, AXIS_RETENTION, NULL, k->d, &use));
    assert_null(use.scheme);
    assert_true(kc_bind(k, AXIS_SHARING, "{map: [1, 1]}", &use));
    kt_same(use.name, "map");
    assert_true(kc_bind(k, AXIS_SHARING, "{layer_types: '0_0'}", &use));
    kt_same(use.name, "map");
    assert_null(scheme_find(AXIS_SHARING, "LCKV", NULL)); /* case matters */
    kt_same(scheme_axis_name(AXIS_SHARING), "sharing");
    kt_same(scheme_axis_name(AXIS_RETENTION), "eviction");
    kt_same(scheme_axis_name(AXIS_STORAGE), "storage");
}

static void refusals(void **state)
{
    static const struct {
        enum scheme_axis axis;
        const char *spec, *message;
    } cases[] = {
        {AXIS_RETENTION, "pyramidk",
         "unknown eviction scheme 'pyramidk'; did you mean 'pyramidkv'?"},
        {AXIS_SHARING, "lckw", "unknown sharing scheme 'lckw'; did you mean 'lckv'?"},
        {AXIS_STORAGE, "fp88", "unknown storage scheme 'fp88'; did you mean 'fp8'?"},
        {AXIS_RETENTION, "quantumfoam",
         "unknown eviction scheme 'quantumfoam'; `kvbudget list schemes` has them all"},
        {AXIS_RETENTION, "kivi2", "'kivi2' is a scheme for storage, not for eviction"},
        {AXIS_SHARING, "snapkv", "'snapkv' is a scheme for eviction, not for sharing"},
        {AXIS_RETENTION, "{capacity: 3}", "eviction has no key 'scheme'"},
        {AXIS_RETENTION, "{map: [1]}", "eviction has no key 'scheme'"},
        {AXIS_RETENTION, "{scheme: [a]}", "eviction needs the name of a scheme"},
        {AXIS_STORAGE, "[a, b]", "storage needs the name of a scheme"},
        {AXIS_RETENTION, "{scheme: none, capacity: 3}", "eviction: none has no parameters"},
        {AXIS_SHARING, "pizza-top", "kv_layers"},
        {AXIS_RETENTION, "{scheme: snapkv, capacty: 3}", "capacty"},
        {AXIS_RETENTION, "{scheme: snapkv, capacity: 0}", "capacity"},
        {AXIS_RETENTION, "{scheme: knorm, compression_ratio: 1.5}", "compression_ratio"},
        {AXIS_SHARING, "{scheme: cla, factor: 0}", "factor"},
        {AXIS_SHARING, "{scheme: cla, remainder: middle}", "middle"},
        {AXIS_STORAGE, "{scheme: fp8, group: 3}", "group"},
        {AXIS_RETENTION, "fastgen",
         "fastgen cannot be planned: which policy a head gets depends on the data, and no code or "
         "profile is published"},
        {AXIS_RETENTION, "scissorhands",
         "scissorhands cannot be planned: its budgets are not published as code; h2o is the nearest "
         "rule that is"},
        {AXIS_RETENTION, "minicache",
         "minicache cannot be planned: how many tokens stay unmerged depends on thresholds that are "
         "not published"},
        {AXIS_RETENTION, "llmlingua",
         "llmlingua cannot be planned: it shortens the prompt text, not the cache: plan with the "
         "shorter workload.prompt"},
    };
    struct kt *k = *state;
    struct scheme_use use;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(kc_bind(k, cases[i].axis, cases[i].spec, &use));
        kt_diag(k->d, cases[i].message, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(every_entry_is_complete),
        kt_test(every_scheme_runs),
        kt_test(names_and_hints),
        kt_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

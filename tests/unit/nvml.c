/* NVML and `hardware.gpu: local`, against a stand-in library that is compiled here
 * (tests/data/nvml.c) and named by KVBUDGET_NVML. Skipped where there is no C compiler. */
#include "planner/base/nvml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/cmd.h"
#include "tests/kvplan.h"
#include "tests/kvstandin.h"

static struct kv_standin use(const char *options)
{
    return kv_standin("nvml", "KVBUDGET_NVML", options);
}

/* --- facts ---------------------------------------------------------------------------------
 */

static void test_two_devices(void **state)
{
    struct kv_standin l = use("");
    struct nvml_facts f;
    const char *reason = NULL;

    (void)state;
    assert_true(nvml_facts(l.a, &f, &reason));
    kt_same(f.driver, "570.86.10");
    kt_u64(f.n, 2);
    kt_same(f.devices[0].name, "NVIDIA H100 80GB HBM3");
    kt_u64(f.devices[0].total_bytes, (uint64_t)81559 << 20);
    kt_u64(f.devices[0].reserved_bytes, (uint64_t)551 << 20);
    kt_u64(f.devices[0].free_bytes, (uint64_t)61008 << 20);
    assert_int_equal(f.devices[0].major, 9);
    assert_int_equal(f.devices[0].temperature_c, 41);
    assert_int_equal(f.devices[0].clock_mhz, 1980);
    assert_int_equal(f.devices[0].memory_clock_mhz, 2619);
    assert_int_equal(f.devices[1].clock_mhz, 0);
    assert_int_equal(f.devices[1].temperature_c, -1);
    kt_same(f.devices[1].name, "NVIDIA Prototype 9");
    kt_u64(f.devices[1].free_bytes, (uint64_t)48640 << 20);
    kt_u64(f.devices[1].link_generation, 5);
    kt_u64(f.devices[1].link_lanes, 16);
    kv_standin_done(&l);
}

/* Open once, read as often as one likes. */
static void test_read_again(void **state)
{
    struct kv_standin l = use("");
    struct nvml_facts f;
    const char *reason = NULL;
    struct nvml *lib = nvml_open(l.a, &reason);

    (void)state;
    assert_non_null(lib);
    for (int i = 0; i < 3; i++) {
        assert_true(nvml_read(lib, l.a, &f, &reason));
        kt_u64(f.n, 2);
    }
    nvml_close(lib);
    nvml_close(NULL);
    kv_standin_done(&l);
}

static void test_old_library(void **state)
{
    struct kv_standin l = use("-DOLD");
    struct nvml_facts f;
    const char *reason = NULL;

    (void)state;
    assert_true(nvml_facts(l.a, &f, &reason));
    assert_null(f.driver);
    kt_u64(f.devices[0].total_bytes, (uint64_t)16 << 30);
    kt_u64(f.devices[0].free_bytes, (uint64_t)15 << 30);
    kt_u64(f.devices[0].reserved_bytes, 0);
    assert_int_equal(f.devices[0].major, 0);
    assert_int_equal(f.devices[0].temperature_c, -1);
    assert_int_equal(f.devices[0].clock_mhz, 0);
    kt_u64(f.devices[0].link_generation, 0);
    kv_standin_done(&l);
}

/* The reason is `after` behind the library's path. */
static void refuses(const char *options, const char *after)
{
    struct kv_standin l = use(options);
    struct nvml_facts f;
    const char *reason = "";

    assert_false(nvml_facts(l.a, &f, &reason));
    kt_same(reason, arena_printf(l.a, "%s%s", getenv("KVBUDGET_NVML"), after));
    kv_standin_done(&l);
}

static void test_failures(void **state)
{
    struct nvml_facts f;
    const char *reason = "";
    struct arena *a = arena_new();

    (void)state;
    setenv("KVBUDGET_NVML", "/nowhere/nvml.so", 1);
    assert_false(nvml_facts(a, &f, &reason));
    kt_same(reason, "/nowhere/nvml.so (KVBUDGET_NVML) cannot be opened");
    unsetenv("KVBUDGET_NVML");
    arena_free(a);
    refuses("-DNO_NAME", " has no nvmlDeviceGetName");
    refuses("-DFAIL_INIT", ": Driver Not Loaded");
    refuses("-DFAIL_INIT -DOLD", ": status 9");
    refuses("-DDEVICES=0", " finds no device");
    refuses("-DFAIL_DEVICE", ", device 1: GPU is lost");
}

/* --- in a plan ------------------------------------------------------------------------------
 */

#define LOCAL KP_LLAMA3_8B "hardware: {gpu: local}\n"

static void test_plan(void **state)
{
    struct kv_standin l = use("");
    struct kp *k = kp_build(LOCAL);

    (void)state;
    kt_same(k->problem.gpu.name, "h100-sxm5-80gb");
    kt_u64(k->problem.total_bytes, (uint64_t)81559 << 20);
    assert_true(k->problem.visible_bytes < k->problem.total_bytes);
    assert_true(k->problem.gpu_named);
    kt_same(k->problem.gpu.origin[GPU_FACT_MEMORY_TOTAL].source, "NVML, driver 570.86.10");
    kp_says(k, "of the GPU's memory are in use now; hardware.memory_limit: 61008MiB plans with "
               "what is free");
    kp_says(k, "one of this machine's 2 GPUs is planned");
    kp_free(k);
    k = kp_build(KP_LLAMA3_8B "hardware: {gpu: local, count: 4}\n");
    kp_says(k, "hardware.count is 4, this machine has 2");
    kp_says(k, "the GPUs of this machine differ: all are planned as the first, NVIDIA H100 "
               "80GB HBM3");
    kp_free(k);
    kv_standin_done(&l);
}

/* Memory other than the profile's: what the driver has not reserved is usable. */
static void test_other_memory(void **state)
{
    struct kv_standin l = use("-DOLD -DDEVICES=1");
    struct kp *k = kp_build(LOCAL);

    (void)state;
    kt_u64(k->problem.total_bytes, (uint64_t)16 << 30);
    kt_u64(k->problem.visible_bytes, (uint64_t)16 << 30);
    assert_true(k->problem.gpu_named);
    kp_free(k);
    kv_standin_done(&l);
}

static void test_unknown_device(void **state)
{
    struct kv_standin l = use("-DDEVICES=1 -DUNKNOWN_FIRST");
    struct kp *k = kp_build(LOCAL);

    (void)state;
    kt_same(k->problem.gpu.name, "NVIDIA Prototype 9");
    kt_same(k->problem.gpu.compute_capability, "12.0");
    kt_u64(k->problem.total_bytes, (uint64_t)49152 << 20);
    kt_u64(k->problem.visible_bytes, (uint64_t)48640 << 20);
    assert_false(k->problem.gpu_named);
    kt_rel(k->problem.gpu.link_bytes_per_s, 63.0e9, 0.01);
    kp_says(k,
            "there is no profile of 'NVIDIA Prototype 9': its memory is the driver's figure, "
            "bandwidth and arithmetic are not known");
    kp_free(k);
    kv_standin_done(&l);
}

static void test_no_device(void **state)
{
    struct kp *k;

    (void)state;
    setenv("KVBUDGET_NVML", "/nowhere/nvml.so", 1);
    k = kp_try(LOCAL);
    assert_false(k->ok);
    assert_int_equal(diag_exit(k->diag), 5);
    kp_says(k, "hardware.gpu: local: /nowhere/nvml.so (KVBUDGET_NVML) cannot be opened");
    kp_free(k);
    unsetenv("KVBUDGET_NVML");
}

/* --- list gpus --local ----------------------------------------------------------------------
 */

struct ran {
    int status;
    char *out, *err;
};

static struct ran ran(int argc, const char *const *words)
{
    struct arena *a = arena_new();
    char *argv[8];
    struct ran r = {0};
    size_t n_out = 0, n_err = 0;
    FILE *out = open_memstream(&r.out, &n_out), *err = open_memstream(&r.err, &n_err);
    struct cmd_ctx ctx = {
        .argc = argc, .argv = argv, .in = stdin, .out = out, .err = err, .arena = a};

    for (int i = 0; i < argc; i++)
        argv[i] = arena_strdup(a, words[i]);
    argv[argc] = NULL;
    ctx.diag = diag_new(a);
    r.status = cmd_main(&ctx);
    fclose(out);
    fclose(err);
    arena_free(a);
    return r;
}

static void prints(int argc, const char *const *words, const char *want)
{
    struct ran r = ran(argc, words);

    kt_same(r.err, "");
    kt_same(r.out, want);
    assert_int_equal(r.status, 0);
    free(r.out);
    free(r.err);
}

static void test_list(void **state)
{
    static const char *const table[] = {"kvbudget", "list",     "gpus",
                                        "--local",  "--format", "table"};
    static const char *const json[] = {"kvbudget", "list", "gpus", "--local",
                                       "--format", "json", "proto"};
    struct kv_standin l = use("");

    (void)state;
    prints(
        6, table,
        "   GPU                    profile             total       free  capability  driver\n"
        "-  ---------------------  --------------  ---------  ---------  ----------  ---------\n"
        "0  NVIDIA H100 80GB HBM3  h100-sxm5-80gb  79.65 GiB  59.58 GiB  9.0         570.86.10\n"
        "1  NVIDIA Prototype 9                     48.00 GiB  47.50 GiB  12.0        570.86.10\n");
    prints(7, json,
           "{\n"
           "  \"schema\": \"kvbudget.list/1\",\n"
           "  \"kvbudget_version\": \"" KV_VERSION "\",\n"
           "  \"kind\": \"local_gpus\",\n"
           "  \"items\": [\n"
           "    {\n"
           "      \"index\": 1,\n"
           "      \"name\": \"NVIDIA Prototype 9\",\n"
           "      \"memory_total_bytes\": 51539607552,\n"
           "      \"memory_free_bytes\": 51002736640,\n"
           "      \"compute_capability\": \"12.0\",\n"
           "      \"driver\": \"570.86.10\"\n"
           "    }\n"
           "  ]\n"
           "}\n");
    kv_standin_done(&l);
}

static void test_list_fails(void **state)
{
    static const char *const gpus[] = {"kvbudget", "list", "gpus", "--local"};
    static const char *const models[] = {"kvbudget", "list", "models", "--local"};
    struct ran r;

    (void)state;
    setenv("KVBUDGET_NVML", "/nowhere/nvml.so", 1);
    r = ran(4, gpus);
    assert_int_equal(r.status, 5);
    kt_same(r.out, "");
    kt_same(r.err, "kvbudget: error: list gpus --local: /nowhere/nvml.so (KVBUDGET_NVML) "
                   "cannot be opened\n");
    free(r.out);
    free(r.err);
    r = ran(4, models);
    assert_int_equal(r.status, 2);
    kt_same(r.out, "");
    kt_same(r.err, "kvbudget: error: --local goes with gpus, not with models\n");
    free(r.out);
    free(r.err);
    unsetenv("KVBUDGET_NVML");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_devices),    cmocka_unit_test(test_read_again),
        cmocka_unit_test(test_old_library),    cmocka_unit_test(test_failures),
        cmocka_unit_test(test_plan),           cmocka_unit_test(test_other_memory),
        cmocka_unit_test(test_unknown_device), cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_list),           cmocka_unit_test(test_list_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

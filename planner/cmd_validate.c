/* validate - runs real kernels and compares what they do with what the planner says. */
#include "planner/cmd.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "planner/base/file.h"
#include "planner/base/nvml.h"
#include "planner/base/unit.h"
#include "planner/doc/profile.h"
#include "tui/statefile.h"
#include "validate/grid.h"
#include "validate/report.h"

static int run(struct cmd_ctx *ctx);

enum own {
    OWN_DEVICE,
    OWN_LEVEL,
    OWN_LIMIT,
    OWN_SEED,
    OWN_TIMEOUT,
    OWN_NO_SAVE,
    OWN_MATRIX,
    N_OWN
};

static const struct cmd_option own_options[] = {
    [OWN_DEVICE] = {"device", "NAME", "cuda:N or cpu; else the first GPU if usable, else cpu"},
    [OWN_LEVEL] = {"level", "LIST",
                   "of count, fit, clock (these three if not given) and counters"},
    [OWN_LIMIT] = {"memory-limit", "SIZE", "as if the device had no more memory (fit)"},
    [OWN_SEED] = {"seed", "N", "of weights, prompts and page tables (0)"},
    [OWN_TIMEOUT] = {"timeout", "TIME",
                     "a wait for a GPU that takes longer is a kernel that hangs (2min)"},
    [OWN_NO_SAVE] = {"no-save", NULL,
                     "keep no copy for the TUI ($XDG_STATE_HOME/kvbudget/validate.json)"},
    [OWN_MATRIX] = {"matrix", NULL,
                    "real models under many schemes, in place of a spec (cpu: a small form)"},
    [N_OWN] = {NULL, NULL, NULL},
};

const struct command command_validate = {
    .name = "validate",
    .summary =
        "run real kernels and compare them with the predictions; exit 6 outside tolerance",
    .usage =
        "validate [SPEC.yaml... | -m MODEL -g GPU | --matrix] [--device cuda:N|cpu] [--level LIST]",
    .run = run,
    .options = CMD_SPEC | CMD_FORMAT | CMD_OUTPUT,
    .own = own_options,
};

static const struct loc nowhere;

struct job {
    struct cmd_ctx *ctx;
    const struct cmd_options *opt;
    struct run_options run;
    const char *device_why; /* why the CPU build was taken; NULL: it was asked for */
    struct subject *subjects;
    size_t n;
    struct run_result result;
    bool progress, shown;
};

/* --- options --------------------------------------------------------------------------------
 */

static bool wrong(struct job *j, enum own o, const char *due)
{
    return diag_add(j->ctx->diag, DIAG_USAGE, nowhere, "--%s takes %s, found '%s'",
                    own_options[o].name, due, j->opt->own[o]);
}

/* Without --device: the first GPU, or the reason why there is none. */
static void pick_device(struct job *j)
{
    struct device_text why = {""};

    j->run.device = j->opt->own[OWN_DEVICE];
    if (j->run.device)
        return;
    j->run.device = device_cuda_count(&why) ? "cuda:0" : "cpu";
    if (strcmp(j->run.device, "cpu") != 0)
        return;
    j->device_why = arena_strdup(j->ctx->arena, why.text);
    if (!j->opt->quiet)
        fprintf(j->ctx->err, "no usable GPU (%s): using the CPU build of the kernels\n",
                why.text);
}

static bool take_options(struct job *j)
{
    const char **own = j->opt->own;
    bool ok = run_levels(j->ctx->arena, own[OWN_LEVEL], j->ctx->diag, &j->run.levels);

    if (own[OWN_DEVICE] && strcmp(own[OWN_DEVICE], "cpu") != 0 &&
        strncmp(own[OWN_DEVICE], "cuda:", 5) != 0)
        ok = wrong(j, OWN_DEVICE, "cpu or cuda:N");
    if (own[OWN_LIMIT] && (unit_parse_bytes(own[OWN_LIMIT], &j->run.limit_bytes) != UNIT_OK ||
                           !j->run.limit_bytes))
        ok = wrong(j, OWN_LIMIT, "a size with its unit, such as 24GiB");
    if (own[OWN_SEED] && unit_parse_u64(own[OWN_SEED], &j->run.seed) != UNIT_OK)
        ok = wrong(j, OWN_SEED, "a whole number");
    if (own[OWN_TIMEOUT] &&
        (unit_parse_seconds(own[OWN_TIMEOUT], &j->run.timeout_s) != UNIT_OK ||
         !(j->run.timeout_s > 0)))
        ok = wrong(j, OWN_TIMEOUT, "a time, such as 30s");
    return ok;
}

/* --- specs ----------------------------------------------------------------------------------
 */

/* Rows of our own: what they warn of is not shown. */
static bool read_row(struct job *j, const struct profiles *profiles,
                     const struct nvml_facts *facts, const struct matrix_row *row)
{
    struct cmd_ctx *ctx = j->ctx;
    struct spec *spec = ARENA_NEW(ctx->arena, struct spec, 1);
    struct problem *p = ARENA_NEW(ctx->arena, struct problem, 1);
    struct subject *s = &j->subjects[j->n];
    struct diag *d = diag_new(ctx->arena);
    struct doc_node *doc = NULL;
    size_t n = 0;

    if (!doc_read_yaml(ctx->arena, row->name, row->spec, strlen(row->spec), d, &doc, 1, &n) ||
        !spec_bind(ctx->arena, doc, d, spec))
        return diag_add(ctx->diag, DIAG_INTERNAL, nowhere, "the built-in spec '%s': %s",
                        row->name, diag_at(d, diag_count(d) - 1)->text);
    spec->hardware.facts = facts;
    if (!problem_build(ctx->arena, spec, profiles, d, p))
        return diag_add(ctx->diag, diag_exit(d) == 5 ? DIAG_DEVICE : DIAG_INTERNAL, nowhere,
                        "the built-in spec '%s' cannot be planned: %s", row->name,
                        diag_at(d, diag_count(d) - 1)->text);
    run_subject(ctx->arena, row->name, p, s);
    s->levels = row->levels;
    s->limit_bytes = row->fit_bytes ? p->stages[0].work.weights_bytes + row->fit_bytes : 0;
    j->n++;
    return true;
}

static bool read_rows(struct job *j, const struct profiles *profiles,
                      const struct matrix_row *rows, size_t n)
{
    struct nvml_facts facts;
    const char *reason;
    bool gpu =
        strncmp(j->run.device, "cuda:", 5) == 0 && nvml_facts(j->ctx->arena, &facts, &reason);

    j->subjects = ARENA_NEW(j->ctx->arena, struct subject, n);
    for (size_t i = 0; i < n; i++)
        if (!read_row(j, profiles, gpu ? &facts : NULL, &rows[i]))
            return false;
    return true;
}

/* Real models under many schemes; how long that takes is said first. */
static bool read_grid(struct job *j, const struct profiles *profiles)
{
    bool cpu = !strcmp(j->run.device, "cpu");
    size_t n;
    const struct matrix_row *rows = grid_rows(j->ctx->arena, cpu, &n);
    double seconds = 0;
    char text[32];

    if (j->opt->n_specs || j->opt->model)
        return diag_add(j->ctx->diag, DIAG_USAGE, nowhere, "--matrix takes no spec");
    if (!read_rows(j, profiles, rows, n))
        return false;
    for (size_t i = 0; i < j->n && !cpu; i++)
        seconds += grid_seconds(&j->subjects[i]);
    if (!cpu && !j->opt->quiet)
        fprintf(j->ctx->err, "%zu points; about %s by the planner's own figures\n", n,
                unit_format_seconds(seconds, text, sizeof text));
    return true;
}

static bool read_specs(struct job *j, const struct profiles *profiles)
{
    struct cmd_ctx *ctx = j->ctx;
    struct cmd_case *cases;
    size_t n = 0;
    bool ok;

    if (j->opt->own[OWN_MATRIX])
        return read_grid(j, profiles);
    if (!j->opt->n_specs && !j->opt->model) {
        const struct matrix_row *rows = matrix_rows(ctx->arena, &n);
        return read_rows(j, profiles, rows, n);
    }
    ok = cmd_cases(ctx, j->opt, profiles, &cases, &n);
    j->subjects = ARENA_NEW(ctx->arena, struct subject, n + 1);
    for (size_t i = 0; i < n; i++) {
        ok = ok && cases[i].ok;
        if (cases[i].ok)
            run_subject(ctx->arena, cases[i].name, &cases[i].problem, &j->subjects[j->n++]);
    }
    return ok;
}

/* --- running --------------------------------------------------------------------------------
 */

static void show_progress(void *to, size_t done, size_t total, const char *what)
{
    struct job *j = to;
    char bar[21];

    if (!j->progress)
        return;
    for (size_t i = 0; i < sizeof bar - 1; i++)
        bar[i] = i * total < done * (sizeof bar - 1) ? '#' : '.';
    bar[sizeof bar - 1] = '\0';
    j->shown = done < total;
    fprintf(j->ctx->err, j->shown ? "\r\033[K[%s] %zu of %zu  %.60s" : "\r\033[K", bar, done,
            total, what);
    fflush(j->ctx->err);
}

/* What the driver tells of the GPU, which has just been at work. */
static void add_driver(struct job *j, struct validate_report_in *in)
{
    struct nvml_facts facts;
    const char *reason;
    uint64_t index = 0;

    if (j->result.info.is_cpu || !nvml_facts(j->ctx->arena, &facts, &reason))
        return;
    in->driver = facts.driver;
    if (unit_parse_u64(j->run.device + strlen("cuda:"), &index) != UNIT_OK || index >= facts.n)
        return;
    in->clock_mhz = facts.devices[index].clock_mhz;
    in->memory_clock_mhz = facts.devices[index].memory_clock_mhz;
}

static const char *date_now(struct arena *a)
{
    time_t t = time(NULL);
    struct tm tm;
    char buf[32];

    return gmtime_r(&t, &tm) && strftime(buf, sizeof buf, "%Y-%m-%dT%H:%M:%SZ", &tm)
               ? arena_strdup(a, buf)
               : "";
}

/* A copy where the TUI looks. That it cannot be written is worth a warning, no more. */
static void save(struct job *j, const cJSON *json)
{
    struct arena *a = j->ctx->arena;
    const char *folder = statefile_folder(a);
    struct diag *own = diag_new(a);
    char *text = NULL;
    size_t n = 0;
    FILE *f = folder && !j->opt->own[OWN_NO_SAVE] ? open_memstream(&text, &n) : NULL;

    if (!f)
        return;
    json_print(json, false, f);
    fclose(f);
    if (!statefile_put(a, folder, "validate.json", text, own))
        diag_add(j->ctx->diag, DIAG_WARN, nowhere, "no copy was kept for the TUI: %s",
                 diag_at(own, 0)->text);
    free(text);
}

static void print(struct job *j)
{
    struct cmd_ctx *ctx = j->ctx;
    struct validate_report_in in = {.options = &j->run,
                                    .result = &j->result,
                                    .subjects = j->subjects,
                                    .n_subjects = j->n,
                                    .date = date_now(ctx->arena),
                                    .device_why = j->device_why};
    struct file_out out;
    cJSON *json;

    add_driver(j, &in);
    json = validate_json(&in);
    save(j, json);
    if (j->result.n[VERDICT_FAILED])
        diag_add(ctx->diag, DIAG_TOLERANCE, nowhere,
                 "%zu of %zu predictions were not confirmed", j->result.n[VERDICT_FAILED],
                 j->result.n[VERDICT_FAILED] + j->result.n[VERDICT_PASSED]);
    if (file_create(ctx->arena, j->opt->output, ctx->out, ctx->diag, &out)) {
        if (cmd_wants_json(ctx, j->opt))
            json_print(json, false, out.f);
        else
            validate_table(ctx->arena, json, j->opt->verbose > 0, out.f);
        (void)!file_commit(&out, ctx->diag);
    }
    cJSON_Delete(json);
}

static int run(struct cmd_ctx *ctx)
{
    struct job j = {.ctx = ctx};
    struct cmd_options opt;
    bool ok;

    if (!cmd_options(ctx, &command_validate, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    j.opt = &opt;
    j.progress = !opt.quiet && isatty(fileno(ctx->err));
    j.run.progress = show_progress;
    j.run.user = &j;
    ok = take_options(&j);
    if (ok)
        pick_device(&j);
    ok = ok && read_specs(&j, profiles_open(ctx->arena, opt.profiles, ctx->diag));
    if (ok && !diag_failed(ctx->diag)) {
        ok = run_checks(ctx->arena, &j.run, j.subjects, j.n, ctx->diag, &j.result);
        if (j.shown)
            fputs("\r\033[K", ctx->err);
        if (ok)
            print(&j);
    }
    cmd_diagnostics(ctx, &opt);
    return diag_exit(ctx->diag);
}

/* What a command gets and how it is registered. A command is one file planner/cmd_<name>.c that
 * defines `const struct command command_<name>`; main.c only finds and runs it, so tests can
 * call commands with memory files. */
#ifndef KVBUDGET_PLANNER_CMD_H
#define KVBUDGET_PLANNER_CMD_H

#include <stdio.h>

#include "planner/plan/fromlog.h"
#include "planner/plan/problem.h"

enum color { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

struct cmd_ctx {
    int argc;
    char **argv; /* argv[0] = the command's name */
    FILE *in, *out, *err;
    bool out_is_terminal;
    struct arena *arena;
    struct diag *diag;
    size_t printed; /* messages of `diag` that cmd_diagnostics has shown */
};

/* Options a command takes besides --help, --version, -q, -v and --color. */
enum {
    CMD_SPEC = 1,     /* specs, --set, -m -g -n -c, --profiles */
    CMD_PROFILES = 2, /* --profiles */
    CMD_OUTPUT = 4,   /* -o */
    CMD_FORMAT = 8,   /* --format json|table */
    CMD_CSV = 16,     /* --format csv too */
    CMD_SCHEMES = 32,
    CMD_SORT = 64,
    CMD_PATH = 128,  /* words after a spec (or after -m) are the command's own */
    CMD_LOCAL = 512, /* --local */
    CMD_LOG = 1024   /* --from-log */
};

/* An option of one command alone; its value is cmd_options.own[its index]. */
struct cmd_option {
    const char *name, *arg; /* arg NULL = a flag */
    const char *help;
};

struct command {
    const char *name, *summary;
    const char *usage; /* "report SPEC.yaml... [options]" */
    int (*run)(struct cmd_ctx *ctx);
    unsigned options;             /* CMD_* bits; 0 = all of them */
    const struct cmd_option *own; /* up to a NULL name; NULL = none */
};

/* Options shared by the commands that take a spec; parsed by cmd_options with getopt_long. */
struct cmd_options {
    char **specs; /* positional arguments */
    int n_specs;
    const char *const *sets; /* --set KEY=VALUE, in order */
    size_t n_sets;
    const char *output;           /* -o FILE */
    const char *format;           /* --format json|table|csv, NULL = by terminal */
    const char *profiles;         /* --profiles DIR */
    const char *model, *gpu;      /* -m, -g */
    const char *count, *context;  /* -n, -c */
    const char *schemes;          /* --schemes all|a,b,c */
    const char *sort;             /* --sort COLUMN */
    bool local;                   /* --local */
    const char *from_log;         /* --from-log FILE */
    const struct server_log *log; /* what the command has read of it; laid under every spec */
    const char **own;             /* values of command.own; "" for a flag, NULL = not given */
    enum color color;
    int verbose, quiet;
    bool help;
};

/* Parses; on a usage error records DIAG_USAGE and returns false. --help and --version set
 * `help` and print: the command then returns 0 at once. */
bool cmd_options(struct cmd_ctx *ctx, const struct command *cmd, struct cmd_options *out)
    __attribute__((warn_unused_result));

/* Reads one spec file ("-" = stdin; a YAML stream gives several; NULL with -m/-g builds one),
 * applies --set, and returns its documents. */
bool cmd_read_specs(struct cmd_ctx *ctx, const struct cmd_options *opt, const char *path,
                    struct doc_node ***docs, size_t *n) __attribute__((warn_unused_result));

/* Spec document -> problem, all problems reported. */
bool cmd_build(struct cmd_ctx *ctx, const struct profiles *profiles, const struct doc_node *doc,
               struct spec *spec, struct problem *out) __attribute__((warn_unused_result));

/* Prints what the sink holds since the last call, to err, with notes only under -v. */
void cmd_diagnostics(struct cmd_ctx *ctx, const struct cmd_options *opt);

bool cmd_wants_json(const struct cmd_ctx *ctx, const struct cmd_options *opt);

/* Whether to write colours to `ctx->out`: --color, NO_COLOR, TERM=dumb, a terminal and no -o.
 */
bool cmd_wants_color(const struct cmd_ctx *ctx, const struct cmd_options *opt);

/* The specs as asked for, each document built with a sink of its own (so that each keeps all
 * its messages); the messages go to ctx->diag too. Entries with ok = false could not be built.
 * At least one, or false with the reason recorded. */
struct cmd_case {
    const char
        *name; /* file, with #2, #3, ... for later documents of a stream; "-m ... -g ..." */
    const char *words; /* as one would type it again: "a.yaml", "-m X -g Y" */
    struct doc_node *doc;
    struct diag *diag;
    struct spec spec;
    struct problem problem;
    bool ok;
};
bool cmd_cases(struct cmd_ctx *ctx, const struct cmd_options *opt,
               const struct profiles *profiles, struct cmd_case **out, size_t *n)
    __attribute__((warn_unused_result));

/* The whole program but for the process: argv[0] is the program's name. main.c calls it, and so
 * do tests. */
int cmd_main(struct cmd_ctx *ctx);

const struct command *command_at(size_t i); /* NULL past the end, sorted by name */

#endif

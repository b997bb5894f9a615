/* The program but for its process: the table of commands, and what is printed where none is
 * named. */
#include "planner/cmd.h"

#include <errno.h>
#include <string.h>

#define ENTRY(id) extern const struct command command_##id;
#include "cmd.inc"
#undef ENTRY

static const struct command *const commands[] = {
#define ENTRY(id) &command_##id,
#include "cmd.inc"
#undef ENTRY
    NULL,
};

enum { N_COMMANDS = sizeof commands / sizeof *commands - 1 };

const struct command *command_at(size_t i)
{
    return i < N_COMMANDS ? commands[i] : NULL;
}

static void print_start(FILE *out)
{
    fputs(
        "kvbudget report -m Llama-3.1-8B -g rtx-3090    # how many sequences fit, what they cost\n"
        "kvbudget example > plan.yaml                   # a spec with comments, to edit\n"
        "kvbudget --help                                # all commands\n",
        out);
}

static void print_help(FILE *out)
{
    fputs(
        "usage: kvbudget COMMAND [OPTIONS]\n"
        "How much memory an LLM needs while it serves, how many sequences fit, and what they cost.\n\n",
        out);
    for (size_t i = 0; commands[i]; i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs(
        "\nkvbudget COMMAND --help lists the options of a command.\n"
        "Exit status: 0 ok, 2 usage, 3 bad input, 4 does not fit, 5 no device, 6 outside tolerance,\n"
        "7 output not written, 70 internal.\n",
        out);
}

static int unknown_command(struct cmd_ctx *ctx, const char *word)
{
    const char *names[N_COMMANDS + 2], *near = NULL;
    bool option = word[0] == '-';

    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i]->name;
        if (!near && *word && !strncmp(names[i], word, strlen(word)))
            near = names[i];
    }
    names[N_COMMANDS] = "--help";
    names[N_COMMANDS + 1] = "--version";
    near = near ? near : doc_nearest(word, names, N_COMMANDS + 2);
    diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
             near ? "there is no %s '%s'; did you mean '%s'?"
                  : "there is no %s '%s'; kvbudget --help lists the commands",
             option ? "option" : "command", word, near);
    return diag_exit(ctx->diag);
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_ctx inner = *ctx;
    const char *word = ctx->argc > 1 ? ctx->argv[1] : NULL;
    int rc;

    if (!word) {
        print_start(ctx->out);
        return 0;
    }
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
        print_help(ctx->out);
        return 0;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        fprintf(ctx->out, "kvbudget %s\n", KV_VERSION);
        return 0;
    }
    for (size_t i = 0; commands[i]; i++) {
        if (strcmp(commands[i]->name, word) != 0)
            continue;
        inner.argc--;
        inner.argv++;
        rc = commands[i]->run(&inner);
        ctx->printed = inner.printed;
        return rc;
    }
    return unknown_command(ctx, word);
}

/* What could not be written is found at the last: a full disk or a closed pipe shows when
 * flushed. */
int cmd_main(struct cmd_ctx *ctx)
{
    int rc = run(ctx);

    errno = 0;
    if ((fflush(ctx->out) != 0 || ferror(ctx->out)) && rc != 7 && rc != 70) {
        diag_add(ctx->diag, DIAG_OUTPUT, (struct loc){.file = "<stdout>"},
                 "cannot be written: %s", errno ? strerror(errno) : "an earlier write failed");
        rc = diag_exit(ctx->diag);
    }
    ctx->printed = diag_print(ctx->diag, ctx->printed, false, ctx->err);
    return rc;
}

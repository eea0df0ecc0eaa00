/* main.c: the nabla command: finds the command that was typed and runs it. Each command is a file of this folder with one table
 * of options. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

const cli_command *cli_command_at(int i) {
    static const cli_command *const commands[] = {&cli_train_command,     &cli_eval_command,    &cli_draw_command,
                                                  &cli_summary_command,   &cli_profile_command, &cli_ops_command,
                                                  &cli_gradcheck_command, &cli_version_command, &cli_help_command};
    return i < (int)(sizeof commands / sizeof *commands) ? commands[i] : NULL;
}

const cli_command *cli_command_find(const char *name) {
    const char        *names[16];
    const cli_command *c;
    int                n = 0;
    for (; (c = cli_command_at(n)); n++) {
        if (strcmp(c->name, name) == 0) return c;
        names[n] = c->name;
    }
    names[n] = NULL;
    const char *near = cli_nearest(name, names);
    if (near)
        cli_error("there is no command '%s': did you mean '%s'? '%s help' lists all", name, near, cli_program().text);
    else
        cli_error("there is no command '%s': '%s help' lists all", name, cli_program().text);
    return NULL;
}

/* A result that did not reach its reader is no result. */
static int flushed(int code) {
    bool failed = ferror(stdout) != 0;
    if (fflush(stdout) == 0 && !failed) return code;
    return code == CLI_DONE ? cli_error("cannot write the result to standard output: %s", strerror(errno)) : code;
}

int main(int argc, char **argv) {
    _Alignas(16) char settings[CLI_SETTINGS] = {0};
    cli_words         words;
    const char       *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
    if (strcmp(name, "--version") == 0) name = "version";
    const cli_command *command = cli_command_find(name);
    if (!command) return CLI_MEND;
    if (!cli_parse(command, argc > 2 ? argc - 2 : 0, argv + 2, &words, settings)) return CLI_MEND;
    if (words.help) {
        cli_print_help(command);
        return flushed(CLI_DONE);
    }
    return flushed(command->run(&words, settings));
}

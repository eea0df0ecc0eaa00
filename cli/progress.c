/* progress.c: what stands on stderr while training. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "train.h"

#define BAR 24

static bool speaks_utf8(void) {
    const char *names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (int i = 0; i < 3; i++) {
        const char *v = getenv(names[i]);
        if (v && *v) return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
    }
    return false;
}

static int columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

void progress_start(progress *p, const train_settings *s, int64_t steps_an_epoch, int64_t step) {
    const char *terminal = getenv("TERM"), *plain = getenv("NO_COLOR");
    bool        is_dumb = !terminal || strcmp(terminal, "dumb") == 0;
    *p = (progress){.quiet = s->quiet, .epochs = s->epochs, .steps = steps_an_epoch, .batch = s->batch, .first_step = step};
    p->live = !s->quiet && !is_dumb && isatty(STDERR_FILENO);
    p->colour = p->live && !(plain && *plain);
    p->utf8 = speaks_utf8();
    p->started = cli_now();
}

static void wipe(progress *p) {
    if (p->live && p->last_drawn > 0) fputs("\r\033[K", stderr);
}

void progress_end(progress *p) {
    wipe(p);
    p->last_drawn = 0;
}

void progress_line(const progress *p, const char *format, ...) {
    va_list args;
    if (p->quiet) return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static void draw_bar(const progress *p, double share, int width) {
    int full = (int)(share * width + 1e-9);
    fputs(p->colour ? "\033[32m" : "", stderr);
    for (int i = 0; i < width; i++) {
        if (i == full && p->colour) fputs("\033[90m", stderr);
        fputs(p->utf8 ? (i < full || p->colour ? "━" : "┄") : (i < full ? "#" : "-"), stderr);
    }
    fputs(p->colour ? "\033[0m" : "", stderr);
}

/* "1:05" or "2:03:09". */
static void clock_text(double seconds, char text[16]) {
    int s = seconds < 3e7 ? (int)(seconds + 0.5) : 30000000;
    if (s < 3600)
        snprintf(text, 16, "%d:%02d", s / 60, s % 60);
    else
        snprintf(text, 16, "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
}

static double images_per_second(const progress *p, const train_state *s) {
    return s->step_seconds > 0 ? (double)(s->step * p->batch) / s->step_seconds : 0;
}

/* The live line: bar and figures, cut where the terminal ends. */
static void draw(progress *p, const train_state *s, const char *what) {
    char   head[48], tail[160], left[16];
    double done = (double)(s->step - p->first_step), all = (double)(p->epochs * p->steps - p->first_step);
    double n = s->batch > 0 ? (double)s->batch : 1;
    int    room = columns() - 1;
    p->last_drawn = cli_now();
    double worked = p->last_drawn - p->started;
    bool   is_early = !what && (worked < 1 || done < 1); /* the first steps say little about the rest */
    clock_text(is_early ? 0 : worked * (all - done) / (done > 0 ? done : 1), left);
    snprintf(head, sizeof head, "epoch %lld/%lld ", (long long)s->epoch + 1, (long long)p->epochs);
    snprintf(tail, sizeof tail, " %3.0f%%  %s%s  loss %.4f  accuracy %.4f  %.0f images/s",
             100 * (double)s->batch / (double)p->steps,
             what       ? what
             : is_early ? ""
                        : left,
             what || is_early ? "" : " left", s->loss_sum / n, s->correct / (n * (double)p->batch), images_per_second(p, s));
    room -= (int)strlen(head);
    int bar = room - (int)strlen(tail) < BAR ? room - (int)strlen(tail) : BAR;
    fprintf(stderr, "\r%s", head);
    if (bar >= 4) {
        draw_bar(p, (double)s->batch / (double)p->steps, bar);
        room -= bar;
    }
    fprintf(stderr, "%.*s\033[K", room > 0 ? room : 0, tail);
    fflush(stderr);
}

void progress_step(progress *p, const train_state *s) {
    if (p->live && cli_now() - p->last_drawn > 0.1) draw(p, s, NULL);
}

void progress_validating(progress *p, const train_state *s) {
    if (p->live) draw(p, s, "validating");
}

void progress_epoch(progress *p, const train_state *s) {
    const json_t *row = json_array_get(s->history, json_array_size(s->history) - 1);
    long long     epoch = (long long)json_integer_value(json_object_get(row, "epoch"));
    progress_end(p);
    progress_line(p, "epoch %lld/%lld  loss %.4f  accuracy %.4f  validation loss %.4f  accuracy %.4f  %.0f images/s  %.1f s%s",
                  epoch, (long long)p->epochs, json_real_value(json_object_get(row, "train_loss")),
                  json_real_value(json_object_get(row, "train_accuracy")),
                  json_real_value(json_object_get(row, "validation_loss")),
                  json_real_value(json_object_get(row, "validation_accuracy")), images_per_second(p, s), s->seconds,
                  epoch == s->best_epoch ? "  best" : "");
}

/* The engine tells, at log level debug, where the time of a long gap went; at others it is silent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "tests/sim/rig.h"

#define DELAY_US 30000

static struct rig rig;
static struct rig_heard heard;

/* Ten tokens, the sixth of them late; what was logged of gaps longer than half that delay. */
static int run_with_a_late_step(enum log_level least, char *line, size_t room)
{
    struct engine_options opt = rig_options();
    char text[1024];
    int lines = 0, error = dup(STDERR_FILENO);
    FILE *f = tmpfile();
    assert_non_null(f);
    fflush(stderr);
    dup2(fileno(f), STDERR_FILENO);
    log_setup(least, false);
    rig_open(&rig, &opt);
    struct engine_request r = rig_request(&rig, 3, 1, 10);
    uint64_t id = rig_submit(&rig, &r);
    memset(&heard, 0, sizeof heard);
    while (!heard.ended) {
        rig.f->delay_us = heard.count == 5 ? DELAY_US : 0;
        engine_turn(rig.e);
        rig_hear(&rig, id, &heard);
    }
    rig_close(&rig);
    dup2(error, STDERR_FILENO);
    close(error);
    rewind(f);
    while (fgets(text, sizeof text, f)) {
        const char *us = strstr(text, " us=");
        if (!strstr(text, " a long gap at_ns=") || !us || strtol(us + 4, NULL, 10) < DELAY_US / 2)
            continue;
        snprintf(line, room, "%s", text);
        lines++;
    }
    fclose(f);
    return lines;
}

static long field(const char *line, const char *name)
{
    const char *at = strstr(line, name);
    assert_non_null(at);
    return strtol(at + strlen(name), NULL, 10);
}

static void test_engine_trace_tells_what_a_gap_was(void **state)
{
    (void)state;
    char line[1024] = "";
    int lines = run_with_a_late_step(LOG_LEVEL_DEBUG, line, sizeof line);
    assert_in_range(lines, 1, 3); /* a busy machine makes gaps of its own */
    if (lines == 1) {
        assert_true(field(line, " wait_us=") >= DELAY_US);
        assert_true(field(line, " usual_us=") < DELAY_US);
        assert_int_equal(field(line, " emptied="), 1);
        assert_int_equal(field(line, " behind="), 0);
        assert_int_equal(field(line, " sending="), 0);
    }
    assert_int_equal(run_with_a_late_step(LOG_LEVEL_INFO, line, sizeof line), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_engine_trace_tells_what_a_gap_was)};
    return cmocka_run_group_tests_name("engine_trace", tests, NULL, NULL);
}

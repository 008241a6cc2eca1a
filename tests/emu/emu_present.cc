/* Linked into programs that know nothing of the emulator: they find its card from the start. */
#include "tests/emu/emu.h"

__attribute__((constructor)) static void present(void)
{
    emu_card(nullptr);
}

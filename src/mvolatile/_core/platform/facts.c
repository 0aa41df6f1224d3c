/* What is known of this kernel, which probe.c finds out. */
#include "platform/parts.h"

size_t os_page_size, os_huge_size;
bool os_huge_by_default;
_Atomic enum os_tier os_serving;
struct os_probe os_probe = {OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED, OS_UNTRIED};

const struct os_probe *os_probed(void) { return &os_probe; }

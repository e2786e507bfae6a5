/* Which model the program runs, and whether it is one that is guided. */
#pragma once

#include <stdbool.h>

/*
 * Whether the program is guided: always without GENARM_HOST_MODELS, else when one of its lines names the program's model.
 *
 * Then `*entry` is the model's name under `hosts:` in the configuration, and `*model` its file, or its name on the hub. Both are NULL
 * without GENARM_HOST_MODELS. They live as long as the program.
 */
bool is_guided(const char ** entry, const char ** model);

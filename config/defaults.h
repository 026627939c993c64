// Fills in what nobody wrote, from the defaults in the schema.
#pragma once

#include "config/origins.h"
#include "config/schema.h"

namespace remora::config {

// A value that was written stays, good or bad; only_if_present sections that are absent stay so.
void fill_in_defaults(Message& message, const Origins& origins);

// What an empty file means.
const Config& default_config();

}  // namespace remora::config

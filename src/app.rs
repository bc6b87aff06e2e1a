//! Assembly: builds everything from the settings, starts the threads, returns what was bound.

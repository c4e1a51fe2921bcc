//! tokioloop

"""Tests of Cairn, by package and by kind."""

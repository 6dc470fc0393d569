"""Telling people and programs what came out."""

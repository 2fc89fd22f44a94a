"""The paper's figures from finished runs: results in, pictures and words out.

Whoever draws reads `results.json` files alone: no model, no data, no device.
"""

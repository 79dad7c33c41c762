"""Writes params.raw into the row file behind kit's back."""


def bench(kit, params):
    kit.data(here=True)
    kit.rows.write(params["raw"])
    kit.rows.flush()
    if params.get("wait"):
        import time

        time.sleep(600)

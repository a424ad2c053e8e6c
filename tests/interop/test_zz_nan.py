import json
from interop.test_column_types import *
async def test_nan(service, conn, driver):
    client = await driver()
    insert(conn, cases({"float4": ["'NaN'"], "float8": ["'NaN'"]}))
    await connected(client, service, "a", "everything", schema=SCHEMA)
    print(await client("query", client="a", sql="SELECT id, float4, float8, typeof(float4) t4, typeof(float8) t8 FROM everything"))
    await client("run", client="a", sql="UPDATE everything SET varchar = 'touched'")
    await client("waitOplogEmpty", client="a", timeoutMs=20000)
    print(await client("query", client="a", sql="SELECT id, float4, float8, typeof(float4) t4, typeof(float8) t8 FROM everything"))
    for f in (await client("wire", client="a", type="SatOpLog")):
        f.pop("hex", 0); print(json.dumps(f)[:3000])
    assert 0

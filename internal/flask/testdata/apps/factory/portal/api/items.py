from flask import jsonify

from portal.api import api_v1

PREFIX = "/items"


@api_v1.route(f"{PREFIX}/", methods=["GET"])
@api_v1.route(PREFIX + "/<item>", methods=["PATCH", "DELETE"])
def items(item=None):
    return jsonify([])

from flask import Blueprint
from flask_restful import Api, Resource

api_v1 = Blueprint("api", __name__)
rest = Api(api_v1, prefix="/rest")


class Todo(Resource):
    def get(self, todo_id=None):
        return {}

    def put(self, todo_id=None):
        return {}


rest.add_resource(Todo, "/todos", "/todos/<int:todo_id>")


@rest.resource("/users")
class UserList(Resource):
    def post(self):
        return {}


from . import items  # noqa: E402

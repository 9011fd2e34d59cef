# Programs, code, files, archives, objects made of bytes.
import asyncio
import codecs
import importlib
import os
import pickle
import shlex
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import jsonpickle
import paramiko
import pexpect
import yaml
from flask import Flask, request
from jinja2 import Environment, Template

app = Flask(__name__)


@app.route("/programs")
def programs():
    q = request.args["q"]
    os.system("ls " + q)  #! command
    os.popen("ls " + q)  #! command
    subprocess.run("ls " + q, shell=True)  #! command
    subprocess.check_output(["ls", q])  #! command
    subprocess.Popen(args=q)  #! command
    os.execv(q, [])  #! command
    return ""


@app.route("/more")
async def more():
    q = request.args["q"]
    await asyncio.create_subprocess_shell("ls " + q)  #! command
    paramiko.SSHClient().exec_command("ls " + q)  #! command
    pexpect.spawn("ls " + q)  #! command
    eval(q)  #! code
    exec(q)  #! code
    importlib.import_module(q)  #! import
    Template("hi " + q).render()  #! template-text
    Environment().from_string(q).render()  #! template-text
    return ""


@app.route("/files")
def files():
    q = request.args["q"]
    open("a/" + q)  #! path-read
    codecs.open("a/" + q)  #! path-read
    open("a/" + q, "w").write("x")  #! path-read
    os.remove("a/" + q)  #! path-delete
    os.listdir(q)  #! path-read
    shutil.rmtree("a/" + q)  #! path-delete
    Path("a" + q).read_text()  #! path-read
    Path(q).unlink()  #! path-delete
    eval(open("a").read())
    with tarfile.open(fileobj=request.files["f"]) as t:
        for m in t.getmembers():
            open("x/" + m.name)  #! path-read
    with zipfile.ZipFile("a.zip") as z:
        for n in z.namelist():
            open("x/" + n)  #! path-read
    return ""


@app.route("/bytes", methods=["POST"])
def objects():
    pickle.loads(request.data)  #! deserialize
    pickle.load(request.files["f"])  #! deserialize
    pickle.Unpickler(request.stream).load()  #! deserialize
    jsonpickle.decode(request.data)  #! deserialize
    yaml.load(request.data, Loader=yaml.Loader)  #! yaml
    yaml.safe_load(request.data)
    os.system(yaml.safe_load(request.data)["a"])  #! command
    return ""

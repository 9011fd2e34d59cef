# Calls that rules look at whatever reaches them: the line says of which kind.
import hashlib
import hmac
import os
import random
import secrets
import socket
import ssl
import subprocess
import tarfile
import tempfile
import uuid
import zipfile
from hashlib import new, sha1
from urllib.request import urlopen

import bcrypt
import jwt
import lxml.etree
import paramiko
import requests
import yaml
from Crypto.Cipher import AES, DES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flask import Flask, make_response, request, session
from flask_cors import CORS, cross_origin
from flask_login import login_user
from markupsafe import Markup
from werkzeug.security import generate_password_hash

app = Flask(__name__)
CORS(app)  # use cors


@app.route("/hashes")
@cross_origin()  # use cors
def hashes():
    hashlib.md5(b"x").hexdigest()  # use hash
    hashlib.new("sha1", b"x")  # use hash
    sha1(b"x")  # use hash
    new("md5")  # use hash
    hmac.new(b"k", b"x", "md5")  # use hash
    generate_password_hash("x")  # use password-hash
    bcrypt.hashpw(b"x", b"y")  # use password-hash
    DES.new(b"k")  # use cipher
    AES.new(b"k", AES.MODE_ECB)  # use cipher
    Cipher(algorithms.AES(b"k"), modes.ECB())  # use cipher
    return ""


@app.route("/chance")
def chance():
    random.random()  # use random
    random.Random(1).randint(1, 2)  # use random
    random.SystemRandom().random()
    secrets.token_hex()
    uuid.uuid4()
    uuid.uuid1()  # use random
    return ""


@app.route("/answers")
def answers():
    r = make_response("x")
    r.set_cookie("a", "b")  # use cookie
    r.headers["X-A"] = "b"  # set header
    session["a"] = "b"  # set session
    login_user(None)  # use session-login
    Markup("x")  # use markup
    request.files["f"].save("x")  # use upload-save
    return r


@app.route("/outside")
def outside():
    requests.get("https://example.org")  # use request
    s = requests.Session()
    s.verify = False  # set tls
    s.post("https://example.org")  # use request
    urlopen("https://example.org")  # use request
    c = ssl.create_default_context()  # use tls
    c.check_hostname = False  # set tls
    ssl._create_unverified_context()  # use tls
    paramiko.SSHClient().set_missing_host_key_policy(None)  # use tls
    socket.socket().bind(("0.0.0.0", 1))  # use bind-all
    return ""


@app.route("/system")
def system():
    subprocess.run(["ls"])  # use subprocess
    os.system("ls")  # use subprocess
    os.chmod("x", 0o777)  # use chmod
    tempfile.mktemp()  # use tempfile
    tarfile.open("x").extractall()  # use archive-extract
    zipfile.ZipFile("x").extractall()  # use archive-extract
    yaml.load("x")  # use yaml-load
    lxml.etree.XMLParser()  # use xml-parser
    jwt.decode("x", "k")  # use jwt-decode
    jwt.encode({}, "k")  # use jwt-encode
    return ""


if __name__ == "__main__":
    app.run(debug=True)  # use bind-all debug-run

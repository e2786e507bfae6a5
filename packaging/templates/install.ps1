# Installs genarm @VERSION@ for this user: irm @URL@/install.ps1 | iex
#   $env:GENARM_HOME   where it lies (default %LOCALAPPDATA%\genarm); to remove it, delete that folder
$ErrorActionPreference = "Stop"
$url = if ($env:GENARM_DOWNLOADS) { $env:GENARM_DOWNLOADS } else { "@URL@" }
$target = if ($env:GENARM_HOME) { $env:GENARM_HOME } else { Join-Path $env:LOCALAPPDATA "genarm" }
$name = "genarm-@VERSION@-windows-x86_64"
$expected = "@SHA256_WINDOWS_X86_64@"
if ($env:PROCESSOR_ARCHITECTURE -ne "AMD64" -or $expected -eq "none") {
    throw "release @VERSION@ has no archive for Windows on $env:PROCESSOR_ARCHITECTURE; build it from source"
}
$work = Join-Path ([IO.Path]::GetTempPath()) ([Guid]::NewGuid())
New-Item -ItemType Directory $work | Out-Null
try {
    $archive = Join-Path $work "$name.zip"
    Invoke-WebRequest -UseBasicParsing "$url/$name.zip" -OutFile $archive
    $found = (Get-FileHash -Algorithm SHA256 $archive).Hash.ToLower()
    if ($found -ne $expected) { throw "what was downloaded is not the release: SHA-256 $found, expected $expected" }
    Expand-Archive $archive -DestinationPath $work
    New-Item -ItemType Directory -Force $target | Out-Null
    $to = Join-Path $target $name
    if (Test-Path $to) { Remove-Item -Recurse -Force $to }
    Move-Item (Join-Path $work $name) $to
} finally {
    Remove-Item -Recurse -Force $work
}
$bin = Join-Path $to "bin"
$path = [Environment]::GetEnvironmentVariable("Path", "User")
if (($path -split ";") -notcontains $bin) {
    [Environment]::SetEnvironmentVariable("Path", "$path;$bin", "User")
    Write-Host "Added $bin to your Path; open a new terminal to use it."
}
& (Join-Path $bin "genarm.exe") --version
